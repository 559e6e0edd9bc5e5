"""A world whose heads look back: beside the last frame they are shown the one `lag` steps before the new one."""

import numpy as np
import pytest
import torch
from playing import PAST, actions_of, equal, in_bfloat16, one_line, past_of, play
from tiny import HEIGHT, WIDTH, tiny_world

from worldsim.budget import state_bytes
from worldsim.cli import main
from worldsim.heads import OutcomeHead
from worldsim.late_commit import LateCommit
from worldsim.world_model import WorldModel
from worldsim.world_state import WorldState, check_same_form

LAG = 4


def looking_back(world, lag=LAG):
    """The world with random heads of that lag, whose rewards and ends differ from frame to frame."""
    torch.manual_seed(1)
    heads = OutcomeHead(HEIGHT, WIDTH, width_conv=8, lag=lag)
    with torch.no_grad():
        heads.net[-1].weight.mul_(50)
    return WorldModel(world.info, world.actions, world.denoiser, heads.to(world.denoiser.dtype), world.starts)


@pytest.fixture(scope="module")
def world():
    return looking_back(tiny_world(depth=2, dim=16))


def shown(world, past, lag, actions):
    """What the heads of that lag were shown before each new frame, as pixels, and the frames that were painted."""
    world, seen = looking_back(world, lag), []
    hook = world.heads.register_forward_pre_hook(lambda head, pair: seen.append(world.codec.decode(pair[0])))
    frames, _, _ = play(world, world.reset(*past, range(len(past[0]))), actions)
    hook.remove()
    return seen, frames


@pytest.mark.parametrize("lag", [2, LAG, PAST])
def test_the_heads_are_shown_the_frame_so_many_steps_before_the_new_one_and_the_last_one(world, lag):
    past = past_of(2)
    seen, frames = shown(world, past, lag, actions_of(2, 7))
    screen = torch.cat((past[0], frames.transpose(0, 1)), dim=1)
    for new, before in enumerate(seen, PAST):
        assert torch.equal(before, torch.cat((screen[:, new - lag], screen[:, new - 1]), dim=1))


def test_before_its_first_frame_a_world_has_always_shown_that_one(world):
    frames, actions = past_of(2)
    seen, _ = shown(world, (frames[:, -2:], actions[:, -1:]), LAG, actions_of(2, 2))
    assert all(torch.equal(before[:, :3], frames[:, -2]) for before in seen)


def outcomes(world, state, actions):
    _, rewards, ended = play(world, state, actions)
    assert len(rewards.unique()) > 1  # else nothing would tell one past from another
    return torch.stack((rewards, ended.float()))


def test_each_world_of_a_batch_has_a_past_of_its_own_that_moves_with_it(world, tmp_path):
    frames, past_actions = past_of(4)
    actions = actions_of(4, 12)
    state = world.reset(frames, past_actions, range(4))
    play(world, state, actions[:3])
    right = outcomes(world, state.clone(), actions[3:])
    order = [2, 0, 3, 1]
    assert torch.equal(outcomes(world, state.select(order), actions[3:, order]), right[:, :, order])
    halves = WorldState.join([state.select([0, 1]), state.select([2, 3])])
    assert torch.equal(outcomes(world, halves, actions[3:]), right)
    other = world.reset(frames.flip(0), past_actions, range(4))
    other.put([1, 3], state.select([1, 3]))
    assert torch.equal(outcomes(world, other, actions[3:])[..., [1, 3]], right[..., [1, 3]])
    state.save(tmp_path / "state", checkpoint="")
    loaded, _, _ = WorldState.load(tmp_path / "state")
    assert torch.equal(outcomes(world, loaded, actions[3:]), right)


def test_a_state_of_heads_that_look_back_less_is_refused(world):
    with pytest.raises(ValueError, match=r"past is \(1, 1, 3, 48, 64\)") as caught:
        check_same_form(tiny_world(depth=2, dim=16).empty_state(), world.empty_state())
    one_line(caught)


@pytest.mark.parametrize("theirs", [1, LAG - 1])
def test_a_state_that_looks_back_otherwise_is_not_put_and_no_world_notices(world, theirs):
    state = world.reset(*past_of(2), [0, 1])
    other = looking_back(world, theirs).reset(*past_of(1, seed=7), [5])
    unharmed = state.clone()
    with pytest.raises(ValueError, match=rf"past is \({theirs}, 3, 48, 64\), here it is \(4, 3, 48, 64\)") as caught:
        state.put([1], other)
    one_line(caught)
    assert equal(play(world, state, actions_of(2, 3)), play(world, unharmed, actions_of(2, 3)))


def test_play_with_late_commits_is_told_the_same_outcomes(world):
    right, late = world.reset(*past_of(2), [0, 1]), LateCommit(world, world.reset(*past_of(2), [0, 1]))
    for action in actions_of(2, 8):
        seen, wanted = late.step(action), world.step(right, action)
        assert torch.equal(seen.reward, wanted.reward) and torch.equal(seen.ended, wanted.ended)


def test_packed_heads_answer_what_the_plain_ones_do(world):
    packed = in_bfloat16(looking_back(tiny_world(depth=2, dim=16)))
    past, after = torch.rand(2, 9, 6, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for ours, theirs in zip(packed.reader(past, after[:, :3]), packed.heads(past, after[:, :3]), strict=True):
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


def test_a_saved_world_looks_back_as_far_as_before(world, tmp_path):
    world.save_pretrained(tmp_path / "world")
    loaded = WorldModel.from_pretrained(tmp_path / "world", dtype=torch.float32)
    assert loaded.heads.config.lag == LAG and loaded.empty_state().past.shape[1] == LAG


def test_an_exported_world_looks_back_too(world, tmp_path):
    pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "worldsim[export]"')
    pytest.importorskip("onnx", reason='needs onnx: pip install "worldsim[export]"')
    from worldsim.export import export_world
    from worldsim.exported.world import OnnxWorld

    export_world(world, tmp_path / "onnx")
    exported = OnnxWorld(tmp_path / "onnx", threads=1)
    mine = exported.reset(start=0, seed=3)
    frames = torch.from_numpy(np.moveaxis(world.starts.frames[:1], -1, 2).copy())
    state = world.reset(frames, torch.from_numpy(world.actions.encode(world.starts.actions[:1])), [3])
    for vector in world.actions.encode([2, 0, 1, 17, 5, 9, 3, 3]):
        right = world.step(state, torch.from_numpy(vector)[None])
        found = exported.step(mine, vector)
        assert (found.reward, found.ended) == (right.reward.item(), right.ended.item())
        past = state.past[0].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(mine.past[:-1], past[:-1])
        assert np.abs(mine.last.astype(int) - past[-1]).max() <= 1
        mine.past = tuple(past)
        mine.memory = {name: tensor.numpy().copy() for name, tensor in state.cache.remembered().items()}


def test_the_state_is_as_large_as_told_to_the_byte():
    model = in_bfloat16(looking_back(tiny_world(depth=2, dim=16)))
    state = model.reset(*past_of(3), range(3))
    tensors = [*state.cache.tensors().values(), state.noise.seeds, state.noise.used, state.past]
    told = state_bytes(model.denoiser.config, 3, lag=LAG)
    assert sum(each.numel() * each.element_size() for each in tensors) == told


def test_info_tells_the_memory_of_a_batch_that_looks_back(world, tmp_path, capsys):
    world.save_pretrained(tmp_path / "world")
    assert main(["info", str(tmp_path / "world"), "--batch", "256"]) == 0
    out = capsys.readouterr().out
    right, other = (f"{state_bytes(world.denoiser.config, 256, lag=lag) / 1e6:.1f} MB" for lag in (LAG, 1))
    assert right in out and other not in out


def test_there_is_no_frame_less_than_a_step_before():
    with pytest.raises(ValueError, match="lag=0") as caught:
        OutcomeHead(16, 24, lag=0)
    one_line(caught)
