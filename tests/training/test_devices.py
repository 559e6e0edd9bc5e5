"""Training on a CUDA device and through the compiler: the same losses as in the plain code."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.engine import GraphedDiT, graphed
from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler
from worldsim_training import dmd, loop
from worldsim_training.config import ContextConfig, DmdConfig, LoopConfig, TeacherForcingConfig
from worldsim_training.dataset import Clip
from worldsim_training.placement import placed
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


@pytest.mark.slow
def test_a_compiled_replay_has_the_slopes_of_the_plain_one():
    denoiser, clip = tiny_denoiser(window=2), OneClip("cpu").clip
    context = PixelCodec().encode(clip.frames[:, :2])
    run = dmd.imagine(denoiser, (1.0, 0.7), 1, context, clip.actions, torch.Generator().manual_seed(0))
    slopes = []
    for compiled in (False, True):
        network = copy.deepcopy(denoiser)
        if compiled:
            network.packed = torch.compile(network.packed, dynamic=False, fullgraph=True)
        loss = dmd.replay(network, run, dmd.ATTENTION["plain"]).square().mean()
        slopes.append(torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True))
    scale = max(slope.abs().max() for slope in slopes[0])
    assert all(torch.allclose(a, b, atol=1e-3 * scale) for a, b in zip(*slopes, strict=True))


def distribution_matching() -> dmd.Dmd:
    config = DmdConfig(context_frames=2, frames=4, critic_per_student=2, critic_learning_rate=1e-3)
    student, teacher = (placed(tiny_denoiser(seed), torch.device("cuda")) for seed in (0, 1))
    stage = dmd.Dmd(student, dmd.CausalScorer(teacher, config.w), (1.0, 0.7), 2.0, config)
    held_out = OneClip("cuda").clip
    stage.best = loop.Best(stage.average, dmd.PlayedScore(stage.average, FewStepSampler((1.0, 0.7)), held_out, 2), 1)
    return stage


@pytest.mark.gpu
def test_distribution_matching_trains_and_resumes_on_a_gpu(tmp_path):
    stages, config = {}, LoopConfig(batch=2, learning_rate=1e-3, decay=0.0, checkpoint_every=2, steps=4)
    for name, lengths in (("straight", (4,)), ("resumed", (2, 4))):
        (tmp_path / name).mkdir()
        for steps in lengths:
            stages[name] = distribution_matching()
            part = replace(config, steps=steps)
            assert dmd.fit(stages[name], OneClip("cuda"), part, tmp_path / name, settings={})
    for one, other in zip(stages["straight"].student.parameters(), stages["resumed"].student.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


@pytest.mark.gpu
def test_distribution_matching_through_graphs_rolls_out_the_student_of_now(tmp_path):
    stage, clips = distribution_matching(), OneClip("cuda")
    stage.player, stage.best.measure.player = graphed(stage.student), graphed(stage.best.measure.network)
    assert isinstance(stage.player, GraphedDiT) and isinstance(stage.best.measure.player, GraphedDiT)
    config = LoopConfig(batch=2, learning_rate=1e-2, decay=0.0, warmup=0, checkpoint_every=2, steps=4)
    assert dmd.fit(stage, clips, config, tmp_path, settings={})
    frames, scores = [], []
    for graphs in (True, False):
        if not graphs:
            stage.player, stage.best.measure.player = stage.student, stage.best.measure.network
        with torch.autocast("cuda", dtype=torch.bfloat16):
            frames.append(stage._imagine(clips.clip, torch.Generator("cuda").manual_seed(0)).frames)
        scores.append(stage.best.measure(stage.average)["score"])
    assert (frames[0] - frames[1]).abs().max() < 1e-2
    assert abs(scores[0] - scores[1]) < 0.05


@pytest.mark.gpu
def test_a_rollout_never_waits_for_the_gpu():
    denoiser, clip = tiny_denoiser().cuda(), OneClip("cuda").clip
    context, generator = PixelCodec().encode(clip.frames[:, :2]), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            dmd.imagine(denoiser, (1.0, 0.7), 1, context, clip.actions, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


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
