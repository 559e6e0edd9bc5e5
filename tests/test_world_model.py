"""Playing a world."""

from dataclasses import replace

import pytest
import torch
from playing import PAST, actions_of, equal, in_bfloat16, one_line, past_of, play
from tiny import HEIGHT, WIDTH, tiny_world

from worldsim.models.dit import CausalDiT
from worldsim.noise import NoiseStream
from worldsim.sampler import FewStepSampler, OdeSampler, ode_grid
from worldsim.world_model import WorldModel


@pytest.fixture(scope="module")
def world():
    return tiny_world(stem_kind="patch", window=3)


def contents(state):
    """Every byte of a state."""
    cache = state.cache
    tensors = (*cache.keys, *cache.values, *cache.turned, cache.previous, cache.frames, state.past)
    noise = [torch.stack((state.noise.seeds, state.noise.used))]
    return [tensor.clone() for tensor in tensors], noise, state.step_count


def same(one, other):
    (tensors, noise, count), (other_tensors, other_noise, other_count) = one, other
    pairs = zip(tensors + noise, other_tensors + other_noise, strict=True)
    return count == other_count and all(torch.equal(a, b) for a, b in pairs)


class StillDenoiser(CausalDiT):
    """Answers the last committed frame, whatever the noise."""

    def forward(self, x_t, sigma, action, cache):
        return cache.previous.float()


# --- what a step is ---


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_still_world_returns_its_start_frame_unchanged(steps):
    world = tiny_world()
    world.denoiser.__class__ = StillDenoiser
    frames, actions = past_of(2)
    ramp = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    frames[0, -1] = torch.stack((ramp, 255 - ramp, ramp // 2)).to(torch.uint8)
    state = world.reset(frames, actions, [0, 1])
    for action in actions_of(2, 5):
        assert torch.equal(world.step(state, action, steps=steps).frame, frames[:, -1])


@pytest.mark.parametrize("stem_kind", ["conv", "patch"])
def test_play_equals_a_naive_one_without_a_cache(stem_kind):
    """Frames, rewards and ends from all 8-bit frames before, computed afresh with numbers written out."""
    world = tiny_world(stem_kind=stem_kind, window=3)
    (frames, past_actions), actions, sigmas = past_of(1), actions_of(1, 6), (1.0, 2 / 3)  # two steps, shift 2
    painted, rewards, ends = play(world, world.reset(frames, past_actions, [7]), actions, steps=2)
    noise = NoiseStream.of([7])
    history = [frame / 127.5 - 1 for frame in frames[0].float()]
    into = [torch.zeros(5), *past_actions[0], *actions[:, 0]]  # into[t] leads to frame t
    for t in range(len(actions)):
        length = PAST + t + 1
        x = noise.draw((3, HEIGHT, WIDTH))[0]
        for call, sigma in enumerate(sigmas):
            levels, known = torch.zeros(1, length), torch.arange(length)[None] > 0
            levels[0, -1] = sigma
            noisy, clean = torch.zeros(2, 1, length, 3, HEIGHT, WIDTH)
            noisy[0, -1], clean[0, :-1] = x, torch.stack(history)
            action = torch.stack(into[:length])[None]
            answer = world.denoiser.packed(noisy, levels, clean, torch.zeros(1, length), action, known)[0, -1]
            if call == 0:
                x = (1 - sigmas[1]) * answer + sigmas[1] * noise.draw((3, HEIGHT, WIDTH))[0]
        pixels = ((answer.clamp(-1, 1) + 1) * 127.5).round()
        off = (pixels - painted[t, 0].float()).abs()
        assert off.max() <= 1 and off.mean() < 0.01
        history.append(painted[t, 0].float() / 127.5 - 1)
        logits, end = world.heads(history[-2][None], history[-1][None])
        assert rewards[t, 0] == (-1.0, 0.0, 1.0)[logits.argmax()] and ends[t, 0] == (end[0] > 0)


def test_the_heads_read_each_frame_beside_the_one_before_it(world):
    frames, past_actions = past_of(2)
    state, read = world.reset(frames, past_actions, [0, 1]), []
    hook = world.heads.register_forward_pre_hook(lambda head, pair: read.append([world.codec.decode(x) for x in pair]))
    painted, _, _ = play(world, state, actions_of(2, 3))
    hook.remove()
    shown = [frames[:, -1], *painted]
    assert len(read) == 3
    assert all(equal(pair, shown[t : t + 2]) for t, pair in enumerate(read))


def test_a_step_has_the_promised_shapes_and_types(world):
    step = world.step(world.reset(*past_of(2), [0, 1]), actions_of(2, 1)[0])
    assert step.frame.shape == (2, 3, HEIGHT, WIDTH) and step.frame.dtype == torch.uint8
    assert step.reward.shape == (2,) and step.reward.dtype == torch.float32
    assert step.ended.shape == (2,) and step.ended.dtype == torch.bool


def test_paint_changes_nothing_but_the_noise(world):
    state = world.reset(*past_of(2), [0, 1])
    tensors, noise, count = contents(state)
    world.paint(state, actions_of(2, 1)[0])
    later_tensors, later_noise, later_count = contents(state)
    assert equal(tensors, later_tensors) and count == later_count == 0
    assert not any(torch.equal(a, b) for a, b in zip(noise, later_noise, strict=True))


def test_paint_then_commit_is_a_step(world):
    state = world.reset(*past_of(2), [0, 1])
    other = state.clone()
    for action in actions_of(2, 3):
        step = world.step(state, action)
        halves = world.commit(other, world.paint(other, action), action)
        assert equal(*([one.frame, one.reward, one.ended] for one in (step, halves)))
    assert same(contents(state), contents(other)) and state.step_count == 3


def test_any_sampler_can_paint(world):
    state = world.reset(*past_of(2), [0, 1])
    frame = world.paint_with(OdeSampler(ode_grid(3, 2.0).tolist()), state, actions_of(2, 1)[0])
    assert frame.shape == state.last.shape and frame.dtype == torch.uint8


def test_a_start_may_be_a_single_frame(world):
    frames, _ = past_of(2)
    state = world.reset(frames[:, :1], torch.zeros(2, 0, 5), [0, 1])
    assert state.cache.frames.tolist() == [1, 1]
    assert torch.equal(state.last, frames[:, 0])
    world.step(state, actions_of(2, 1)[0])


def test_a_past_action_leads_into_the_frame_after_it(world):
    """actions[t] takes frame t to frame t + 1: what is remembered of frames 0..t does not know it, frame t + 1 does."""
    frames, actions = past_of(1)
    swapped = actions.clone()
    swapped[:, -1] = 1 - swapped[:, -1]
    one, other = (world.reset(frames, each, [0]).cache for each in (actions, swapped))
    for keys, others in zip(one.keys, other.keys, strict=True):
        assert torch.equal(keys[..., :-1, :], others[..., :-1, :])
        assert not torch.equal(keys[..., -1, :], others[..., -1, :])


def test_a_swapped_action_changes_the_very_next_frame(world):
    state = world.reset(*past_of(1), [0])
    action = actions_of(1, 1)[0]
    frames = [world.paint(state.clone(), each).float() for each in (action, 1 - action)]
    assert (frames[0] - frames[1]).abs().max() >= 1


def test_play_goes_on_past_three_windows_and_stays_alive(world):
    frames, _, _ = play(world, world.reset(*past_of(1), [0]), actions_of(1, 3 * world.info.window_frames + 2))
    assert (frames[1:] != frames[:-1]).flatten(1).any(dim=1).all()


def test_weights_never_change_while_playing(world):
    before = [weight.clone() for weight in (*world.denoiser.parameters(), *world.heads.parameters())]
    play(world, world.reset(*past_of(2), [0, 1]), actions_of(2, 2))
    assert equal(before, [*world.denoiser.parameters(), *world.heads.parameters()])


# --- seeds, slots, save states ---


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_same_seed_and_actions_give_the_same_bytes(world, steps):
    runs = [play(world, world.reset(*past_of(2), [3, 4]), actions_of(2, 3), steps=steps) for _ in range(2)]
    torch.manual_seed(99)
    runs.append(play(world, world.reset(*past_of(2), [3, 4]), actions_of(2, 3), steps=steps))
    assert equal(runs[0], runs[1]) and equal(runs[0], runs[2])
    assert not torch.equal(play(world, world.reset(*past_of(2), [5, 6]), actions_of(2, 3), steps=steps)[0], runs[0][0])


def test_no_global_randomness_is_used(world):
    before = torch.get_rng_state()
    play(world, world.reset(*past_of(1), [0]), actions_of(1, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_clone_is_a_save_state(world):
    state, actions = world.reset(*past_of(2), [0, 1]), actions_of(2, 6)
    play(world, state, actions[:2])
    saved = state.clone()
    assert same(contents(saved), contents(state))
    at_save = contents(saved)
    first = play(world, state, actions[2:])
    assert same(contents(saved), at_save)
    assert equal(play(world, saved, actions[2:]), first)
    assert same(contents(saved), contents(state)) and saved.step_count == 6


def test_changing_a_clone_leaves_the_original(world):
    state = world.reset(*past_of(2), [0, 1])
    before = contents(state)
    clone = state.clone()
    play(world, clone, actions_of(2, 2))
    clone.last.zero_()
    clone.cache.previous.zero_()
    assert same(contents(state), before)


def test_frames_handed_in_or_out_are_not_the_states_memory(world):
    frames, past_actions = past_of(1)
    state = world.reset(frames, past_actions, [0])
    before = contents(state)
    frames.zero_()
    assert same(contents(state), before)
    step = world.step(state, actions_of(1, 1)[0])
    before = contents(state)
    step.frame.zero_()
    assert same(contents(state), before)


@pytest.mark.parametrize("stem_kind", ["conv", "patch"])
@pytest.mark.parametrize("worlds", [2, 3, 5])
def test_a_worlds_bytes_do_not_depend_on_its_slot_or_its_neighbours(stem_kind, worlds):
    world = in_bfloat16(tiny_world(stem_kind=stem_kind, window=3))
    runs = []
    for slot in range(worlds):
        frames, past_actions = past_of(worlds, seed=10 + slot)
        actions, seeds = actions_of(worlds, 3, seed=10 + slot), [10 * slot + i for i in range(worlds)]
        (frames[slot],), (past_actions[slot],) = past_of(1, seed=5)
        actions[:, slot], seeds[slot] = actions_of(1, 3, seed=5)[:, 0], 5
        runs.append([each[:, slot] for each in play(world, world.reset(frames, past_actions, seeds), actions)])
    assert all(equal(run, runs[0]) for run in runs)


def test_each_world_of_a_batch_has_its_own_noise():
    world = in_bfloat16(tiny_world(stem_kind="patch"))
    frames, past_actions = (each.expand(3, *each.shape[1:]) for each in past_of(1))
    actions = actions_of(1, 2).expand(2, 3, 5)
    painted, _, _ = play(world, world.reset(frames, past_actions, [0, 1, 0]), actions)
    assert torch.equal(painted[:, 0], painted[:, 2])
    assert not torch.equal(painted[:, 0], painted[:, 1])


def test_a_batch_of_one_is_near_the_same_world_in_a_batch_of_three(world):
    frames, past_actions = past_of(3)
    actions = actions_of(3, 3)
    together, _, _ = play(world, world.reset(frames, past_actions, [0, 1, 2]), actions)
    for i in range(3):
        one = slice(i, i + 1)
        alone, _, _ = play(world, world.reset(frames[one], past_actions[one], [i]), actions[:, one])
        off = (alone.float() - together[:, one].float()).abs()
        assert off.max() <= 2 and off.mean() < 0.05


class Steady:
    """Heads that see no reward, and every frame's end with one probability."""

    def __init__(self, probability):
        self.odds = torch.tensor(probability).logit()

    def read(self, before, after):
        return torch.zeros(len(after)), self.odds.expand(len(after))


def under_steady_heads(world, probability, **info):
    other = WorldModel(replace(world.info, **info), world.actions, world.denoiser, world.heads, world.starts)
    other.reader = Steady(probability)
    return other


def test_a_world_that_draws_its_ends_has_as_many_as_the_head_expects_and_the_frames_of_one_that_does_not(world):
    drawing, plain = under_steady_heads(world, 0.3, draws_ends=True), under_steady_heads(world, 0.3)
    actions, seeds = actions_of(40, 30), range(40)
    frames, _, ended = play(drawing, drawing.reset(*past_of(40), seeds), actions)
    assert ended.float().mean() == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / ended.numel()) ** 0.5)
    assert ended.float().mean(dim=0).std() < 2 * (0.3 * 0.7 / 30) ** 0.5  # in no world always or never
    assert torch.equal(ended, play(drawing, drawing.reset(*past_of(40), seeds), actions)[2])
    right, _, never = play(plain, plain.reset(*past_of(40), seeds), actions)
    assert torch.equal(frames, right) and not never.any()


def test_an_end_that_comes_by_chance_pays_what_the_world_says_and_no_other_step_does(world):
    info = {"draws_ends": True, "drawn_end_reward": -100.0}
    for probability, paid in ((0.3, -100.0), (0.8, 0.0)):  # an end that is likelier than not is the head's own to pay
        drawing = under_steady_heads(world, probability, **info)
        _, rewards, ended = play(drawing, drawing.reset(*past_of(40), range(40)), actions_of(40, 10))
        assert ended.any() and not ended.all()
        assert torch.equal(rewards, torch.where(ended, paid, 0.0))


@pytest.mark.parametrize("info", [{}, {"draws_ends": True, "drawn_end_reward": -100.0}])
def test_a_final_reward_ends_the_episode_and_stays_what_it_is(world, info):
    for final, ends in (((3.0, 0.0), True), ((3.0,), False)):
        other = under_steady_heads(world, 1e-6, final_rewards=final, **info)
        _, rewards, ended = play(other, other.reset(*past_of(4), range(4)), actions_of(4, 5))
        assert (ended == ends).all() and not rewards.any()


def test_drawn_ends_are_the_worlds_own_in_any_place_of_a_batch(world):
    drawing, actions = under_steady_heads(world, 0.5, draws_ends=True), actions_of(6, 20)
    ended = play(drawing, drawing.reset(*past_of(6), range(6)), actions)[2]
    back = play(drawing, drawing.reset(*past_of(6), range(5, -1, -1)), actions)[2]
    assert torch.equal(ended, back.flip(1)) and len(ended.T.unique(dim=0)) == 6


def test_a_nan_in_one_world_leaves_the_bytes_of_the_others(world):
    actions = actions_of(3, 4)
    healthy = world.reset(*past_of(3), [0, 1, 2])
    sick = healthy.clone()
    for tensor in (*sick.cache.keys, *sick.cache.values, *sick.cache.turned, sick.cache.previous):
        tensor[1] = torch.nan
    sick_actions = actions.clone()
    sick_actions[:, 1] = torch.nan
    right, seen = play(world, healthy, actions), play(world, sick, sick_actions)
    for world_slot in (0, 2):
        assert equal([each[:, world_slot] for each in right], [each[:, world_slot] for each in seen])


# --- bad input ---


def test_reset_names_what_is_wrong_with_a_past(world):
    frames, actions = past_of(2)
    right_frames = rf"this world takes \(B, K, 3, {HEIGHT}, {WIDTH}\) uint8$"
    wrong = [
        ((frames.float(), actions, [0, 1]), right_frames),
        ((frames[0], actions, [0, 1]), right_frames),
        ((frames[:, :0], actions, [0, 1]), right_frames),
        ((frames.transpose(-1, -2), actions, [0, 1]), right_frames),
        ((frames.permute(0, 1, 3, 4, 2), actions, [0, 1]), right_frames),
        ((frames.numpy(), actions, [0, 1]), "of type ndarray, no tensor; " + right_frames),
        ((frames, actions[:, 1:], [0, 1]), r"\(2, 3, 5\) float32; 5 frames have \(2, 4, 5\) float32 between them"),
        ((frames, actions[..., :4], [0, 1]), r"5 frames have \(2, 4, 5\) float32 between them"),
        ((frames, actions[:1], [0, 1]), r"5 frames have \(2, 4, 5\) float32 between them"),
        ((frames, actions.long(), [0, 1]), r"int64; 5 frames have \(2, 4, 5\) float32 between them"),
        ((frames, actions.numpy(), [0, 1]), "of type ndarray, no tensor"),
        ((frames, actions, [0]), "1 seeds for 2 worlds; give one each"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message) as caught:
            world.reset(*arguments)
        one_line(caught)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("worlds", [1, 2])
def test_actions_of_any_floating_point_type_mean_the_same(worlds, dtype):
    world = in_bfloat16(tiny_world())
    (frames, past_actions), actions = past_of(worlds), actions_of(worlds, 3)
    right = play(world, world.reset(frames, past_actions, range(worlds)), actions)
    past_actions, actions = past_actions.to(dtype).requires_grad_(), actions.to(dtype).requires_grad_()
    assert equal(play(world, world.reset(frames, past_actions, range(worlds)), actions), right)


def test_a_bad_step_is_named_and_loses_nothing(world):
    state = world.reset(*past_of(2), [0, 1])
    before = contents(state)
    action = actions_of(2, 1)[0]
    right = r"these worlds take \(2, 5\) float32$"
    for wrong in (action[0], action[:1], action[:, :4], torch.tensor([3, 4]), action.long(), action.numpy(), 3):
        for act in (world.step, world.paint):
            with pytest.raises(ValueError, match=right) as caught:
                act(state, wrong)
            one_line(caught)
    for steps in (0, 3, -1):
        with pytest.raises(ValueError, match=f"steps={steps} is not a trained step count; use 1, 2 or 4") as caught:
            world.step(state, action, steps=steps)
        one_line(caught)
    assert same(contents(state), before)


def test_a_bad_frame_cannot_be_committed(world):
    state = world.reset(*past_of(2), [0, 1])
    before, action, frame = contents(state), actions_of(2, 1)[0], state.last.clone()
    for wrong in (frame.float(), frame[0], frame[:1], frame.transpose(-1, -2), frame.numpy()):
        with pytest.raises(ValueError, match=rf"these worlds take \(2, 3, {HEIGHT}, {WIDTH}\) uint8$") as caught:
            world.commit(state, wrong, action)
        one_line(caught)
    with pytest.raises(ValueError, match=r"these worlds take \(2, 5\) float32$"):
        world.commit(state, frame, action[:1])
    assert same(contents(state), before)


def test_a_world_takes_one_step_at_its_own_level(world):
    frames, past = past_of(1)
    lower = WorldModel(replace(world.info, single_sigma=0.9), world.actions, world.denoiser, world.heads, world.starts)
    action = actions_of(1, 1)[0]
    shown = [each.paint(each.reset(frames, past, [0]), action, steps=1) for each in (world, lower)]
    told = lower.paint_with(FewStepSampler((0.9,)), lower.reset(frames, past, [0]), action)
    assert torch.equal(shown[1], told) and not torch.equal(shown[0], shown[1])


def test_a_pixel_that_hardly_changes_keeps_its_bytes_and_is_remembered_so(world):
    still = WorldModel(replace(world.info, still_levels=2), world.actions, world.denoiser, world.heads, world.starts)
    last = torch.full((1, 3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    painted = last.clone()
    painted[0, 0, 0, 0], painted[0, :, 2, 2] = 102, 98
    painted[0, :, 1, 1] = torch.tensor([102, 103, 98])  # one channel changes by more, so all of the pixel does
    frame, sound = still.shown(still.codec.encode(painted), last)
    assert sound.all() and (frame != last).any(dim=1).nonzero().tolist() == [[0, 1, 1]]
    assert torch.equal(frame[0, :, 1, 1], painted[0, :, 1, 1])
    loose = WorldModel(replace(world.info, still_levels=80), world.actions, world.denoiser, world.heads, world.starts)
    frames, past = past_of(1)
    state, before, kept = loose.reset(frames, past, [0]), frames[:, -1], 0
    for action in actions_of(1, 4):
        after = loose.step(state, action).frame
        change = (after.short() - before.short()).abs().amax(dim=1)
        kept += (change == 0).sum()
        assert (change[change > 0] > 80).all() and (change > 0).any()
        assert torch.equal(state.cache.previous, loose.codec.encode(after).to(state.cache.previous.dtype))
        before = after
    assert kept > 0
