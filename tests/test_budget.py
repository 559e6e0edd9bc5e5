"""Memory told before it is allocated, against what is allocated."""

import pytest
import torch
from tiny import save_tiny_world
from torch.profiler import ProfilerActivity, profile

from worldsim import engine
from worldsim.benchmark.playing import begin
from worldsim.budget import SCRATCH, state_bytes, working_bytes
from worldsim.cli import main
from worldsim.world_model import WorldModel

pytestmark = pytest.mark.usefixtures("one_thread")
needs_kernels = pytest.mark.skipif(not engine.has_kernels(), reason="this build has no bfloat16 kernels for the CPU")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_world(tmp_path_factory.mktemp("worlds") / "tiny")


def worlds_of(model, worlds):
    return begin(model, 0).select([0] * worlds)


def most_held(model, state):
    """Bytes that a step holds at its worst moment, beside what there was before."""
    action = torch.zeros(len(state.noise), model.actions.size)
    model.step(state, action)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model.step(state, action)
    held = worst = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            worst = max(worst, held)
    return worst


@pytest.mark.parametrize("worlds", [1, 5])
def test_the_state_is_as_large_as_told_to_the_byte(tiny, worlds):
    model = WorldModel.from_pretrained(tiny)
    state = worlds_of(model, worlds)
    tensors = [*state.cache.tensors().values(), state.noise.seeds, state.noise.used, state.past]
    told = state_bytes(model.denoiser.config, worlds, lag=model.heads.config.lag)
    assert sum(each.numel() * each.element_size() for each in tensors) == told


@needs_kernels
@pytest.mark.parametrize("worlds", [1, 5])
@pytest.mark.parametrize("world", ["tiny", "boxing"])
def test_a_step_holds_at_most_what_is_told_and_no_small_part_of_it(tiny, world, worlds):
    model = WorldModel.from_pretrained(tiny if world == "tiny" else world)
    told = working_bytes(model.denoiser.config, worlds)
    assert (told - SCRATCH) / 4 < most_held(model, worlds_of(model, worlds)) <= told


def test_info_tells_the_memory_of_a_batch(tiny, capsys):
    assert main(["info", str(tiny), "--batch", "256"]) == 0
    out = capsys.readouterr().out
    config = WorldModel.from_pretrained(tiny).denoiser.config
    assert "256 worlds" in out and f"{state_bytes(config, 256, lag=1) / 1e6:.1f} MB" in out


@pytest.mark.parametrize(
    "damaged, text, words",
    [
        ("denoiser/config.json", "{}", "'depth'"),
        ("heads/config.json", "[]", "'list' object has no attribute 'get'"),
    ],
)
def test_info_names_the_files_of_which_one_is_damaged(tiny, tmp_path, damaged, text, words):
    from worldsim.info import batch_facts

    for file in ("manifest.json", "denoiser/config.json", "heads/config.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes((tiny / file).read_bytes())
    (tmp_path / damaged).write_text(text)
    files = "denoiser/config.json, heads/config.json or manifest.json"
    with pytest.raises(ValueError, match=f"damaged: {files} lacks {words}"):
        batch_facts(tmp_path, 2)
