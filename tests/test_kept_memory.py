"""Worlds whose memory is what a frame's last call leaves: the same in every engine, and committed where it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_frames import ActedOut
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser, tiny_world

from worldsim import engine
from worldsim.benchmark.plain import ConcatenatingDiT
from worldsim.benchmark.rival import load_rival
from worldsim.benchmark.roofline import frame_gflop
from worldsim.engine import native
from worldsim.engine.frames import FrameGraphs
from worldsim.engine.gpu import GpuDiT
from worldsim.export import export_world
from worldsim.exported.world import OnnxWorld
from worldsim.late_commit import LateCommit
from worldsim.rollout import at_level, remember, rollout
from worldsim.sampler import FewStepSampler
from worldsim.world_model import WorldModel

needs_kernels = pytest.mark.skipif(not engine.has_kernels(), reason="this build has no bfloat16 kernels for the CPU")
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"depth": 3, "dim": 16}
SAMPLER = FewStepSampler((1.0, 0.6), kept_sigma=0.7)
FRAMES = 10  # past the window's overflow


def keeping(**config):
    """A tiny world that keeps the last call of two and four steps, not that of one."""
    world = tiny_world(**{**SMALL, **config})
    world.info = replace(world.info, kept_sigma=0.7)
    return world


def begin(world, worlds=2, seed=0):
    frames = torch.from_numpy(np.moveaxis(world.starts.frames[:worlds], -1, 2).copy())
    actions = torch.from_numpy(world.actions.encode(world.starts.actions[:worlds]))
    return world.reset(frames, actions, range(seed, seed + worlds))


def actions_of(worlds, frames):
    return torch.randint(2, (frames, worlds, 5), generator=torch.Generator().manual_seed(1)).float()


def memory_of(cache):
    """What is remembered; what a call has left for a frame that is not there yet is none of it."""
    return {name: tensor.clone() for name, tensor in cache.remembered().items()}


def same_memory(one, other):
    return all(torch.equal(one.cache.remembered()[n], t) for n, t in other.cache.remembered().items())


@torch.no_grad()
def play(player, worlds=1, frames=FRAMES):
    """Frames after a past of noise, and the cache; the noise is fixed."""
    generator = torch.Generator().manual_seed(0)
    past = torch.rand(worlds, 3, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1
    actions = torch.randint(2, (worlds, 2 + frames, 5), generator=generator).float()
    cache = player.new_cache(worlds)
    remember(player, cache, past, actions[:, :2])
    noise = lambda: torch.randn(worlds, 3, HEIGHT, WIDTH, generator=generator)  # noqa: E731
    return rollout(player, SAMPLER, cache, actions[:, 2:], noise), cache


def near(found, expected, share=0.02):
    return (found - expected).abs().max() <= share * expected.abs().max()


# --- the plain network ---


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"stem_kind": "patch", "previous_frame": False}, {"depth": 4}])
def test_a_packed_frame_equals_the_played_one_whose_memory_the_calls_before_it_left(settings):
    network, generator = tiny_denoiser(window=2, **settings), torch.Generator().manual_seed(0)
    clean, handed, noisy = torch.randn(3, 2, FRAMES, 3, HEIGHT, WIDTH, generator=generator)
    levels = torch.full((2, FRAMES), 0.6)
    levels[:, :2] = 0  # a past that was committed
    handed[:, :2] = clean[:, :2]
    actions = torch.randint(2, (2, FRAMES, 5), generator=generator).float()
    known = torch.arange(FRAMES).repeat(2, 1) > 0
    words = noisy, torch.full((2, FRAMES), 0.9), clean, torch.zeros(2, FRAMES), actions, known
    packed = network.packed(*words, kept=(handed, levels))
    cache = network.new_cache(2)
    for t in range(FRAMES):
        action = actions[:, t]
        if t:
            assert (network(noisy[:, t], torch.full((2,), 0.9), action, cache) - packed[:, t]).abs().max() < 1e-5
        if levels[0, t]:
            network(handed[:, t], levels[:, t], action, cache, leave=True)
            network.keep(clean[:, t], cache)
        else:
            network.commit(clean[:, t], action if t else None, cache)
    assert (network.packed(*words) - packed).abs().max() > 1e-3


@torch.no_grad()
def test_a_call_that_leaves_answers_as_one_that_does_not_and_changes_no_memory():
    network, x = tiny_denoiser(), torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    cache, sigma, action = network.new_cache(2), torch.full((2,), 0.6), torch.ones(2, 5)
    network.commit(x, action, cache)
    before, left = memory_of(cache), [each.clone() for each in cache.pending]
    answer = network(-x, sigma, action, cache)
    assert all(torch.equal(a, b) for a, b in zip(cache.pending, left, strict=True))
    assert torch.equal(network(-x, sigma, action, cache, leave=True), answer)
    assert all(torch.equal(memory_of(cache)[name], tensor) for name, tensor in before.items())
    assert not any(torch.equal(a, b) for a, b in zip(cache.pending, left, strict=True))


# --- the world ---


@pytest.mark.parametrize(("steps", "commits"), [(1, True), (2, False), (4, False)])
def test_a_step_keeps_its_last_call_up_to_the_level_that_was_learnt_and_commits_above_it(monkeypatch, steps, commits):
    world, asked = keeping(), []
    state = begin(world)
    monkeypatch.setattr(world.painter, "commit", lambda *words: asked.append("commit"))
    monkeypatch.setattr(world.painter, "keep", lambda *words: asked.append("keep"))
    world.step(state, actions_of(2, 1)[0], steps=steps)
    assert asked == (["commit"] if commits else ["keep"])


def test_paint_then_commit_is_a_step_and_another_frame_or_a_state_that_was_changed_between_is_committed():
    world = keeping()
    state = begin(world)
    for action in actions_of(2, 6):
        right, other, own = state.clone(), state.clone(), state.clone()
        step = world.step(state, action)
        frame = world.paint(right, action)
        half = right.clone()
        put = half.clone()
        put.put([0], half.select([0]))
        for each in (right, half, put):
            world.commit(each, frame, action)
        world.commit(other, world.paint(other, action).clone(), action)
        world.commit(own, frame, action)  # was never painted from this state
        assert torch.equal(step.frame, frame) and right.painted is None
        for kept in (right, half):  # a clone goes on as its original
            assert same_memory(kept, state)
        for committed in (put, other):
            assert same_memory(committed, own)
        assert not same_memory(own, state)


def test_the_networks_doubt_leaves_what_was_left():
    world, action = keeping(), actions_of(2, 1)[0]
    state, right = begin(world), begin(world)
    world.step(right, action)
    world.step(state, action, doubt=True)
    assert all(torch.equal(state.cache.tensors()[n], t) for n, t in right.cache.tensors().items())


def test_a_world_whose_frame_held_a_nan_remembers_numbers_and_the_others_are_as_without():
    world, actions = keeping(), actions_of(2, 3)
    state, right = begin(world), begin(world)
    state.cache.values[0][1] = torch.nan
    step, wanted = world.step(state, actions[0]), world.step(right, actions[0])
    assert torch.equal(step.reward.isnan(), torch.tensor([False, True])) and torch.equal(step.frame[0], wanted.frame[0])
    assert all(left.isfinite().all() for left in state.cache.pending)
    assert torch.equal(state.cache.keys[0][0], right.cache.keys[0][0])


def test_a_paint_that_fails_leaves_no_frame_to_keep(monkeypatch):
    world, action = keeping(), actions_of(2, 1)[0]
    state, right = begin(world), begin(world)
    frame = world.paint(state, action)
    monkeypatch.setattr(world.codec, "decode", lambda painted: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.paint(state, action)
    monkeypatch.undo()
    world.commit(state, frame, action)
    world.commit(right, frame, action)
    assert same_memory(state, right)


def test_a_many_step_sampler_and_late_commits_serve_such_a_world_too():
    world, actions = keeping(), actions_of(2, 4)
    state = begin(world)
    frame = world.paint_with(FewStepSampler((1.0, 0.8)), state, actions[0])
    committed = state.clone()
    world.commit(state, frame, actions[0])
    world.painter.commit(world.codec.encode(frame), actions[0], committed.cache)
    assert torch.equal(state.cache.keys[0], committed.cache.keys[0])
    own, usual = begin(world), begin(world)
    world.commit(own, world.paint_with(world.sampler(2), own, actions[0]), actions[0])
    world.step(usual, actions[0])
    assert same_memory(own, usual)
    right, late = begin(world), LateCommit(world, begin(world))
    for steps, action in zip((2, 1, 2, 1), actions, strict=True):  # those of one step are committed, and late
        seen, wanted = late.step(action, steps=steps), world.step(right, action, steps=steps)
        assert (seen.frame.int() - wanted.frame.int()).abs().max() <= 1


def test_the_same_world_with_commits_is_a_rival_and_does_more_work():
    world = keeping()
    assert world.with_commits().info.kept_sigma == 0 and world.info.kept_sigma == 0.7
    assert frame_gflop(world, 2) < frame_gflop(world.with_commits(), 2) < frame_gflop(world, 2) * 1.5
    assert frame_gflop(world, 1) == frame_gflop(world.with_commits(), 1)
    frame = load_rival("commit", world, "tiny", steps=2, seed=0).step()
    assert frame.shape == (1, HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match="'commit' compares nothing: tiny commits every frame of 1 steps already"):
        load_rival("commit", world, "tiny", steps=1, seed=0)


def test_the_plain_code_is_a_rival_with_and_without_commits(tmp_path, monkeypatch):
    world, commits = keeping(), []
    world.save_pretrained(tmp_path / "tiny")
    whole = ConcatenatingDiT.commit
    monkeypatch.setattr(ConcatenatingDiT, "commit", lambda *given: commits.append(1) or whole(*given))
    for asked, each_frame in (("plain", 0), ("plain-commit", 1)):
        rival = load_rival(asked, world, tmp_path / "tiny", steps=2, seed=0)
        commits.clear()
        for _ in range(3):
            rival.step()
        assert len(commits) == 3 * each_frame and rival.name.endswith("a commit of every frame") == bool(each_frame)
    with pytest.raises(ValueError, match="'plain-commit' compares nothing"):
        load_rival("plain-commit", world, tmp_path / "tiny", steps=1, seed=0)


def test_it_is_told_in_the_worlds_folder(tmp_path):
    world = keeping()
    world.save_pretrained(tmp_path / "kept")
    assert WorldModel.from_pretrained(tmp_path / "kept").info.kept_sigma == 0.7


# --- the engines ---


def test_plain_code_with_concatenated_caches_paints_the_same_frames():
    network = tiny_denoiser()
    expected, found = play(network)[0], play(ConcatenatingDiT(network))[0]
    assert (found - expected).abs().max() < 1e-4


def in_bfloat16(**config):
    network = tiny_denoiser(**config)
    for weight in network.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return network


@needs_kernels
@pytest.mark.parametrize("worlds", [1, 2])
@pytest.mark.parametrize("how", ["packed", "for a GPU"])
def test_rewritten_networks_leave_and_keep_what_the_plain_one_does(how, worlds):
    plain = in_bfloat16()
    player = engine.packed(plain, SAMPLER.sigmas)
    player = GpuDiT(player, backend="eager") if how == "for a GPU" else player
    _, right = play(plain, worlds)
    cache, action = right.clone(), torch.ones(worlds, 5)
    for x in torch.randn(3, worlds, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2)):
        expected = at_level(plain, x, 0.6, action, right, leave=True)
        assert near(at_level(player, x, 0.6, action, cache, leave=True), expected)
        for network, memory in ((plain, right), (player, cache)):
            network.keep(expected, memory)
        for name, tensor in right.tensors().items():
            assert near(cache.tensors()[name].float(), tensor.float(), 0.04), name


@needs_kernels
def test_a_call_that_is_not_asked_to_leave_leaves_nothing_on_a_gpu_either():
    player = GpuDiT(engine.packed(in_bfloat16()), backend="eager")
    _, cache = play(player)
    left = [each.clone() for each in cache.pending]
    player.at_level(torch.randn(1, 3, HEIGHT, WIDTH), 0.05, torch.ones(1, 5), cache)
    assert all(torch.equal(a, b) for a, b in zip(cache.pending, left, strict=True))


@needs_kernels
@torch.no_grad()
def test_traced_passes_leave_and_keep_what_the_packed_ones_do():
    packed = engine.packed(in_bfloat16(), SAMPLER.sigmas)
    _, cache = play(packed)
    other, x, action = cache.clone(), torch.randn(1, 3, HEIGHT, WIDTH), torch.ones(1, 5)
    packed.at_level(x, 0.6, action, cache, leave=True)
    given = native.constants(packed.level_of(0.6)), packed.steer_of(action), other.tensors()
    native.traced(native.DenoisePass(packed)).module()(x, *given)
    assert all(near(a, b) for a, b in zip(other.pending, cache.pending, strict=True))
    packed.keep(-x, cache)
    native.traced(native.KeepPass(packed)).module()(-x, other.tensors())
    for name, tensor in cache.tensors().items():
        assert near(other.tensors()[name], tensor, 0.03), name


def test_through_graphs_the_frames_and_the_memory_are_the_same_whoever_is_played_between():
    plain, world = keeping(), keeping()
    world._graphs = FrameGraphs(world._paint_frame, world._commit_frame, record=ActedOut)
    state, between, right = begin(world), begin(world, seed=5), begin(plain)
    for action in actions_of(2, 6):
        frame = world.paint(state, action)
        world.step(between, -action)
        world.commit(state, frame, action)
        assert torch.equal(frame, plain.step(right, action).frame)
        assert all(torch.equal(state.cache.tensors()[n], t) for n, t in right.cache.tensors().items())


@pytest.mark.parametrize("steps", [1, 2])
def test_an_exported_world_keeps_and_commits_as_the_torch_world_does(tmp_path, steps):
    world = keeping()
    export_world(world, tmp_path / "kept")
    exported, state = OnnxWorld(tmp_path / "kept", threads=1), begin(world, 1)
    mine = exported.reset(start=0, seed=0)
    for action in actions_of(1, FRAMES):
        right, found = world.step(state, action, steps=steps), exported.step(mine, action[0].numpy(), steps=steps)
        mine.past = (*mine.past[:-1], right.frame[0].permute(1, 2, 0).numpy())
        assert np.abs(found.frame.astype(int) - mine.last).max() <= 1
        for name, tensor in memory_of(state.cache).items():
            assert np.abs(mine.memory[name] - tensor.numpy()).max() < 0.05, name
            mine.memory[name] = tensor.numpy()


def loaded(folder, device):
    """A world as it is loaded, and played by the networks as they are written."""
    world, plain = (WorldModel.from_pretrained(folder, device=device) for _ in range(2))
    for each in (world, plain):
        each.info = replace(each.info, kept_sigma=0.7)
    plain.play_plain()
    return world, plain


def check_near(world, plain):
    """From the same memory the same frames but for rounding, alone and in a batch."""
    for worlds in (1, 3):
        state, right = begin(world, worlds), begin(plain, worlds)
        for action in actions_of(worlds, FRAMES):
            state.put(range(worlds), right)
            seen, wanted = (each.step(where, action).frame.float() for each, where in ((world, state), (plain, right)))
            assert (seen - wanted).abs().mean() < 1 and wanted.std() > 10


@needs_kernels
def test_a_loaded_world_keeps_in_batches_and_alone(tmp_path):
    check_near(*loaded(save_tiny_world(tmp_path / "tiny"), "cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu_too_frames_are_kept_as_the_plain_network_keeps_them(tmp_path, compile):
    world, plain = loaded(save_tiny_world(tmp_path / "tiny", dim=64), "cuda")
    if compile:
        world.play_compiled()
    check_near(world, plain)
    assert world.is_graphed and world.engine == ("compiled" if compile else "packed")
