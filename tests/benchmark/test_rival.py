"""Another program's step timed in turn with a world's; the plain code; the worked adapter."""

import time
from pathlib import Path

import pytest
import torch
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser, tiny_world

from worldsim.benchmark import plain, rival
from worldsim.rollout import remember
from worldsim.world_model import WorldModel

DIAMOND = Path(__file__).resolve().parents[2] / "examples" / "adapters" / "diamond.py"
pytestmark = pytest.mark.usefixtures("one_thread")

SLEEPER = '''"""A sleeper, no network."""
import time
import numpy as np

def make(height, width, device):
    def step(action):
        time.sleep(0.05)
        return np.zeros((height, width, 3), np.uint8)
    return step
'''


@pytest.fixture
def few(monkeypatch):
    for name, value in {"PAIRS": 2, "TURN_FRAMES": 2, "WARMUP_FRAMES": 1}.items():
        monkeypatch.setattr(rival, name, value)


def adapter(folder, text):
    path = folder / "adapter.py"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("few")
def test_an_adapter_is_timed_as_fast_as_it_is(tmp_path):
    model = tiny_world()
    found = rival.load_rival(str(adapter(tmp_path, SLEEPER)), model, "tiny", steps=1, seed=0)
    report = rival.time_rival(model, found, steps=1, seed=0)
    assert report["rival"] == "A sleeper, no network"
    assert 5 < report["rival_fps_p50"] <= 20
    assert report["rival_ratio_min"] <= report["rival_ratio_p50"] <= report["rival_ratio_max"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no function make"),
        (SLEEPER.replace("(height, width, 3)", "(3, height, width)"), r"gave a frame \(3, 48, 64\) uint8"),
        (None, "no adapter 'gone.py' is there; give 'plain', 'plain-commit', 'late', 'commit' or a Python file"),
    ],
)
def test_what_is_no_adapter_gets_one_line_that_says_what_would_be_right(tmp_path, text, message):
    asked = "gone.py" if text is None else str(adapter(tmp_path, text))
    with pytest.raises(ValueError, match=message):
        rival.load_rival(asked, tiny_world(), "tiny", steps=1, seed=0)


@pytest.mark.usefixtures("few")
def test_the_plain_code_is_a_rival_by_name(tmp_path):
    folder = save_tiny_world(tmp_path / "tiny")
    model = WorldModel.from_pretrained(folder)
    report = rival.time_rival(model, rival.load_rival("plain", model, folder, steps=2, seed=0), steps=2, seed=0)
    assert "concatenated caches" in report["rival"] and report["rival_fps_p50"] > 0


@pytest.mark.usefixtures("few")
def test_the_world_itself_with_late_commits_is_a_rival_by_name():
    model = tiny_world()
    report = rival.time_rival(model, rival.load_rival("late", model, "tiny", steps=2, seed=0), steps=2, seed=0)
    assert "next frame's first pass" in report["rival"] and report["rival_fps_p50"] > 0


@torch.no_grad()
def test_the_plain_code_answers_what_the_network_does_while_the_window_fills_and_after():
    network = tiny_denoiser()
    slow = plain.ConcatenatingDiT(network)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 7, 3, HEIGHT, WIDTH, generator=generator)
    actions = torch.ones(2, 6, 5)
    for count in (1, 3, 7):
        caches = [each.new_cache(2) for each in (network, slow)]
        for each, cache in zip((network, slow), caches, strict=True):
            remember(each, cache, frames[:, :count], actions[:, : count - 1])
        asked = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator), torch.full((2,), 0.7), actions[:, 0]
        ours, theirs = network(*asked, caches[0]), slow(*asked, caches[1])
        assert (ours - theirs).abs().max() < 1e-4 * ours.abs().max()


def test_the_worked_adapter_paints_frames_with_as_many_weights_as_published():
    module = rival._module(DIAMOND)
    frame = module.make(16, 24, "cpu")(3)
    assert frame.shape == (16, 24, 3) and frame.dtype.name == "uint8"
    assert round(sum(weight.numel() for weight in module.UNet().parameters()) / 1e6, 1) == 4.4


def test_the_worked_sampler_of_a_perfect_network_ends_at_the_truth():
    """EDM's network answers (x_0 - c_skip x) / c_out; three Euler steps then end at x_0 whatever the noise."""
    module = rival._module(DIAMOND)
    truth = torch.full((1, 3, 8, 8), 0.25)

    def perfect(entered, level, actions):
        sigma = (4 * level).exp()
        total = sigma**2 + module.SIGMA_DATA**2
        x = entered[:, -3:] * total**0.5
        return (truth - x * module.SIGMA_DATA**2 / total) * total**0.5 / (sigma * module.SIGMA_DATA)

    for sigma in module.SIGMAS[:-1]:
        found = module.denoised(perfect, torch.randn(1, 3, 8, 8), sigma, torch.zeros(1, 12, 8, 8), None)
        assert (found - truth).abs().max() < 1e-3


def test_turns_alternate():
    order = []

    class Step:
        def __call__(self):
            order.append("rival")
            time.sleep(0)

    model = tiny_world()
    step = model.step
    model.step = lambda *args, **how: order.append("own") or step(*args, **how)
    rival.time_rival(model, rival.Rival("x", Step()), steps=1, seed=0)
    timed = order[model.info.window_frames + rival.WARMUP_FRAMES :]
    turn = ["own"] * rival.TURN_FRAMES + ["rival"] * rival.TURN_FRAMES
    assert timed == turn * rival.PAIRS
