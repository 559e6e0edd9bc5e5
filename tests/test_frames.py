"""Frames as CUDA graphs: the plain ones, whoever else is played between; on a CPU the same with graphs acted out."""

import gc

import numpy as np
import pytest
import torch
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_world

from worldsim.engine.frames import STAGES, FrameGraphs
from worldsim.engine.heads import PackedOutcomeHead
from worldsim.engine.network import PackedDiT
from worldsim.noise import NoiseStream
from worldsim.sampler import FewStepSampler
from worldsim.world_model import WorldModel

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"depth": 2, "dim": 16}


class ActedOut:
    """What `Recorded` does, without a GPU: work over inputs at fixed places, its answer overwritten at each call."""

    def __init__(self, work, *inputs):
        self.work, self.inputs = work, [each.clone() for each in inputs]
        work(*self.inputs)  # warms up, in the midst of the memory
        self.answer = [each.clone() for each in work(*self.inputs)]

    def __call__(self, *given):
        for place, each in zip(self.inputs, given, strict=True):
            place.copy_(each)
        for place, each in zip(self.answer, self.work(*self.inputs), strict=True):
            place.copy_(each)
        return self.answer


class Refusing(ActedOut):
    """A driver that can record nothing; what it tried has been done."""

    def __init__(self, work, *inputs):
        super().__init__(work, *inputs)
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")


def graphed(record=ActedOut, **config):
    """A tiny world and the same one through graphs that are acted out."""
    plain, world = tiny_world(**SMALL, **config), tiny_world(**SMALL, **config)
    world._graphs = FrameGraphs(world._paint_frame, world._commit_frame, record=record)
    return plain, world


def begin(world, starts, seed=0):
    """Worlds at those start states."""
    frames = torch.from_numpy(np.moveaxis(world.starts.frames[starts], -1, 2).copy())
    actions = torch.from_numpy(world.actions.encode(world.starts.actions[starts]))
    return world.reset(frames, actions, range(seed, seed + len(starts)))


def actions_of(worlds, frame):
    generator = torch.Generator().manual_seed(frame)
    return torch.randint(2, (worlds, 5), generator=generator).float()


def check_same(world, state, plain, right, frame, **settings):
    action = actions_of(len(state.last), frame)
    seen, wanted = world.step(state, action, **settings), plain.step(right, action, **settings)
    assert torch.equal(seen.frame, wanted.frame) and torch.equal(seen.reward, wanted.reward)
    assert torch.equal(seen.ended, wanted.ended)
    for name, tensor in right.cache.tensors().items():
        assert torch.equal(state.cache.tensors()[name], tensor), name
    assert torch.equal(state.noise.used, right.noise.used) and torch.equal(state.last, right.last)


def test_worlds_played_in_turn_keep_their_own_memories():
    plain, world = graphed()
    states, rights = ([begin(each, [0, 1]), begin(each, [2, 0], 7)] for each in (world, plain))
    for frame, turn in enumerate((0, 0, 1, 0, 1, 1)):
        check_same(world, states[turn], plain, rights[turn], frame, steps=(1, 2, 2, 1, 2, 4)[frame])
    assert world.is_graphed and not plain.is_graphed


def test_a_clone_is_a_save_state_and_a_world_may_be_put_into_another():
    plain, world = graphed()
    (state, saved), (right, kept) = ([begin(each, [0, 1]), begin(each, [2])] for each in (world, plain))
    check_same(world, state, plain, right, 0)
    clones = state.clone(), right.clone()
    for each, other in ((state, saved), (right, kept)):
        each.put([1], other)
    for frame in (1, 2):
        check_same(world, state, plain, right, frame)
        check_same(world, clones[0], plain, clones[1], frame)


def test_what_was_painted_is_the_callers_own_and_stays_when_others_are_painted():
    _, world = graphed()
    state = begin(world, [0, 1])
    frame = world.paint(state, actions_of(2, 0))
    before = frame.clone()
    world.paint(state, actions_of(2, 1))
    assert torch.equal(frame, before) and not torch.equal(world.paint(state, actions_of(2, 2)), before)


def test_more_numbers_of_worlds_than_are_kept_play_on():
    plain, world = graphed()
    counts = range(1, STAGES + 3)
    states, rights = ([begin(each, [0] * count) for count in counts] for each in (world, plain))
    for frame in range(2):
        for state, right in zip(states, rights, strict=True):
            check_same(world, state, plain, right, frame)
    assert len(world._graphs._stages) == STAGES


def test_worlds_that_are_gone_leave_no_memory_behind():
    _, world = graphed()
    world.step(begin(world, [0]), actions_of(1, 0))
    stage = world._graphs._stages[1]
    gc.collect()
    assert stage._tenant() is None
    state = begin(world, [1])
    world.step(state, actions_of(1, 0))
    assert state.cache.previous is stage.place.previous


def test_where_no_graph_can_be_recorded_one_line_says_so_and_the_frames_are_the_same():
    plain, world = graphed(Refusing)
    state, right = begin(world, [0, 1]), begin(plain, [0, 1])
    with pytest.warns(UserWarning, match=r"no CUDA graph here \(operation not permitted when stream is capturing\);"):
        check_same(world, state, plain, right, 0)
    for frame in (1, 2):
        check_same(world, state, plain, right, frame)
    assert not world.is_graphed


@torch.no_grad()
def test_within_a_frame_nothing_comes_from_another_device_or_back_from_it():
    """On torch's "meta" device, where there are no numbers to ask for, and which mixes with no other."""
    world = tiny_world(**SMALL)
    for part in (world.denoiser, world.heads):
        part.to(torch.bfloat16).to("meta")
    sigmas = world.info.sigmas(2)
    world.painter, world.reader = PackedDiT(world.denoiser, sigmas), PackedOutcomeHead(world.heads)
    cache, noise = world.painter.new_cache(3), NoiseStream.of(range(3), "meta")
    last, action = torch.zeros(3, 3, HEIGHT, WIDTH, dtype=torch.uint8, device="meta"), torch.ones(3, 5, device="meta")
    frame, sound = world._paint_frame(FewStepSampler(sigmas), noise, last, action, cache)
    reward, ended = world._commit_frame(frame, last, action, cache, False)
    assert frame.is_meta and frame.shape == last.shape and frame.dtype == torch.uint8
    assert all(each.is_meta and each.shape == (3,) for each in (sound, reward, ended))


# --- on a GPU ---


def load(folder, how):
    world = WorldModel.from_pretrained(folder, device="cuda")
    if how == "plain":
        world.play_plain()
    elif how == "compiled":
        world.play_compiled()
    return world


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_world(tmp_path_factory.mktemp("world") / "tiny")


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["packed", "compiled"])
def test_on_a_gpu_graphs_paint_the_plain_frames_within_a_grey_level_at_mean(folder, how):
    """Each frame from the same memory."""
    world, plain = load(folder, how), load(folder, "plain")
    state, right = begin(world, [0, 1, 2, 0]), begin(plain, [0, 1, 2, 0])
    for frame in range(6):
        state.put(range(4), right)
        action = actions_of(4, frame)
        seen, wanted = world.step(state, action), plain.step(right, action)
        assert (seen.frame.float() - wanted.frame.float()).abs().mean() < 1
        for name, tensor in right.cache.tensors().items():
            assert (state.cache.tensors()[name] - tensor).abs().max() <= 0.05 * tensor.abs().max() + 1e-3, name
    assert world.is_graphed and world.engine == how and not plain.is_graphed


@pytest.mark.gpu
def test_on_a_gpu_worlds_played_in_turn_keep_their_own_memories(folder):
    world, alone = load(folder, "packed"), load(folder, "packed")
    states, rights = ([begin(each, [0, 1]), begin(each, [2, 0], 7)] for each in (world, alone))
    alone._graphs = None
    for frame, turn in enumerate((0, 0, 1, 0, 1, 1)):
        check_same(world, states[turn], alone, rights[turn], frame)
    assert world.is_graphed


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["packed", "compiled"])
def test_once_recorded_a_frame_never_waits_for_the_gpu(folder, how):
    world = load(folder, how)
    state = begin(world, [0, 1, 2])
    action = actions_of(3, 0)
    world.step(state, action)
    torch.cuda.set_sync_debug_mode("error")
    try:
        world.step(state, action)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_on_a_gpu_a_world_without_graphs_and_its_doubt_are_near_those_with(folder):
    world, plain = load(folder, "packed"), load(folder, "plain")
    state, right = begin(world, [0, 1]), begin(plain, [0, 1])
    action = actions_of(2, 0)
    frame = plain.paint(right, action)
    assert (world.doubt(state, frame, action) - plain.doubt(right, frame, action)).abs().max() < 2
