"""Training on a CUDA device and through the compiler: the same losses as in the plain code."""

import copy

import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_denoiser

from worldsim.models.dit import CausalDiT
from worldsim_training import loop
from worldsim_training.config import ContextConfig, LoopConfig, TeacherForcingConfig
from worldsim_training.dataset import Clip
from worldsim_training.teacher_forcing import TeacherForcing


class OneClip:
    """A sampler that has a single batch."""

    def __init__(self, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (2, 6, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
        known = torch.ones(2, 6, dtype=torch.bool)
        self.clip = Clip(frames, torch.rand(2, 6, 5), known, torch.zeros(2, 6), ~known).to(device)

    def sample(self) -> Clip:
        return self.clip

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        assert state == {}


@pytest.mark.slow
def test_the_compiled_pass_answers_what_the_plain_one_does():
    denoiser = tiny_denoiser()
    compiled = torch.compile(copy.deepcopy(denoiser).packed, dynamic=False, fullgraph=True)
    clip = OneClip("cpu").clip
    x = clip.frames.float() / 127.5 - 1.0
    sigma = torch.rand(x.shape[:2])
    words = (torch.randn_like(x), sigma, x, torch.zeros_like(sigma), clip.actions, clip.known)
    with torch.no_grad():
        assert torch.allclose(compiled(*words), CausalDiT.packed(denoiser, *words), atol=1e-4)


@pytest.mark.gpu
def test_a_stage_trains_and_resumes_on_a_gpu(tmp_path):
    def stage() -> TeacherForcing:
        return TeacherForcing(tiny_denoiser().train().cuda(), TeacherForcingConfig(), ContextConfig())

    clips = OneClip("cuda")
    straight, resumed = stage(), stage()
    whole = LoopConfig(steps=4, batch=2, learning_rate=1e-3, decay=0.0, checkpoint_every=2)
    assert loop.fit(straight, clips, whole, tmp_path, settings={})
    for steps in (2, 4):
        folder = tmp_path / "resumed"
        folder.mkdir(exist_ok=True)
        part = LoopConfig(steps=steps, batch=2, learning_rate=1e-3, decay=0.0, checkpoint_every=2)
        assert loop.fit(resumed if steps == 4 else stage(), clips, part, folder, settings={})
    for one, other in zip(straight.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
