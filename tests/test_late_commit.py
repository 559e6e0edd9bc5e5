"""Commits that wait for the next frame's first pass: the frames and the memory of commits that do not wait."""

import numpy as np
import pytest
import torch
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser, tiny_world

from worldsim.late_commit import LateCommit
from worldsim.rollout import advance
from worldsim.world_model import WorldModel

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIONS = torch.eye(5)[[0, 3, 1, 1, 4, 2]]


def begin(world, worlds):
    frames = torch.from_numpy(np.moveaxis(world.starts.frames[:worlds], -1, 2).copy())
    return world.reset(frames, torch.from_numpy(world.actions.encode(world.starts.actions[:worlds])), range(worlds))


@pytest.mark.parametrize("steps", [1, 2])
def test_frames_outcomes_and_at_last_the_state_are_those_of_step(steps):
    world = tiny_world(depth=2, dim=16)
    right, late = begin(world, 2), LateCommit(world, begin(world, 2))
    for action in ACTIONS:
        action = action.repeat(2, 1)
        seen, wanted = late.step(action, steps=steps), world.step(right, action, steps=steps)
        assert (seen.frame.int() - wanted.frame.int()).abs().max() <= 1
        assert torch.equal(seen.reward, wanted.reward) and torch.equal(seen.ended, wanted.ended)
    state = late.settle()
    for name, tensor in right.cache.tensors().items():
        # A frame may be a grey level off.
        assert (state.cache.tensors()[name] - tensor).abs().max() < 0.02 * tensor.abs().max() + 1e-2, name
    assert state.step_count == right.step_count == len(ACTIONS) and torch.equal(state.noise.used, right.noise.used)
    assert torch.equal(state.cache.frames, right.cache.frames)
    assert late.settle() is state and torch.equal(state.cache.frames, right.cache.frames)


def test_an_actions_buffer_can_be_filled_anew_before_its_frame_is_committed():
    world = tiny_world(depth=2, dim=16)
    right, late, buffer = (LateCommit(world, begin(world, 1)), LateCommit(world, begin(world, 1)), torch.empty(1, 5))
    for action in ACTIONS.split(1):
        assert torch.equal(late.step(buffer.copy_(action)).frame, right.step(action).frame)
        buffer.fill_(1.0)
    memory = right.settle().cache.tensors()
    assert all(torch.equal(tensor, memory[name]) for name, tensor in late.settle().cache.tensors().items())


@pytest.mark.parametrize("worlds", [1, 2])
def test_a_world_as_it_is_loaded_too_paints_about_the_frames_of_step(tmp_path, worlds):
    world = WorldModel.from_pretrained(save_tiny_world(tmp_path / "tiny"))
    right, late = begin(world, worlds), LateCommit(world, begin(world, worlds))
    for action in ACTIONS:
        action = action.repeat(worlds, 1)
        seen, wanted = late.step(action).frame.float(), world.step(right, action).frame.float()
        assert (seen - wanted).abs().mean() < 2 and wanted.std() > 10


def test_a_fault_is_told_as_step_tells_it_and_its_frame_is_the_last_one():
    world = tiny_world(depth=2, dim=16)
    late = LateCommit(world, begin(world, 2))
    before = late.step(ACTIONS[:2]).frame
    late.settle().cache.values[0][1] = torch.nan
    seen = late.step(ACTIONS[:2])
    assert torch.equal(seen.reward.isnan(), torch.tensor([False, True])) and torch.equal(seen.frame[1], before[1])


def test_an_action_of_another_size_is_refused_before_anything_changes():
    world = tiny_world(depth=2, dim=16)
    late = LateCommit(world, begin(world, 2))
    with pytest.raises(ValueError, match="these worlds take"):
        late.step(ACTIONS[:1])
    assert late.settle().step_count == 0


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"stem_kind": "patch", "previous_frame": False}, {"depth": 4}])
def test_one_pass_over_two_frames_is_a_commit_and_then_a_call(settings):
    network = tiny_denoiser(**settings)
    apart, together = network.new_cache(2), network.new_cache(2)
    generator = torch.Generator().manual_seed(0)
    for frame in range(6):  # the memory of 4 frames fills and overflows
        x_0, x_t = torch.randn(2, 2, 3, HEIGHT, WIDTH, generator=generator)
        before, action = ACTIONS[[frame] * 2], ACTIONS[[frame - 1] * 2]
        network.commit(x_0, before, apart)
        expected = network(x_t, torch.full((2,), 0.4), action, apart)
        found = network.advance(x_0, before, x_t, 0.4, action, together)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        for name, tensor in apart.tensors().items():
            assert (together.tensors()[name] - tensor).abs().max() < 1e-4, name


@torch.no_grad()
def test_a_network_without_such_a_pass_gets_two():
    class Calls:
        def __init__(self):
            self.seen = []

        def __call__(self, x_t, sigma, action, cache):
            self.seen.append(("call", sigma.tolist()))
            return x_t

        def commit(self, x_0, action, cache):
            self.seen.append("commit")

    network, frame = Calls(), torch.zeros(1, 3, HEIGHT, WIDTH)
    advance(network, frame, ACTIONS[:1], frame, 0.5, ACTIONS[:1], None)
    assert network.seen == ["commit", ("call", [0.5])]
