"""A fault in one world of a batch: the others keep their bytes, the faulty one is truncated, named and begins anew."""

import threading

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from tiny import tiny_world

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")

WORLDS, STEPS = 3, 5
TRIGGER = 17  # the action that provokes the flaw, which no world else takes
MODES = list(AutoresetMode)
NEXT_STEP, SAME_STEP, DISABLED = MODES


class Flawed(CausalDiT):
    """A network that marks a frame with a white corner where its world took the trigger, or fails there."""

    flaw = None

    def forward(self, x_t, sigma, action, cache):
        hit = self.hit(action)
        if self.flaw == "error in painting" and hit.any():
            raise RuntimeError("the painter\nfell")
        frame = super().forward(x_t, sigma, action, cache).clone()
        frame[:, :, 0, 0] = torch.where(hit, 1.0, -1.0)[:, None]
        if self.flaw == "NaN in painting":
            frame[hit, 1, 5, 7] = torch.nan
        return frame

    def commit(self, x_0, action, cache):
        if self.flaw == "error in commit" and action is not None and self.hit(action).any():
            raise RuntimeError("the memory is lost")
        if self.flaw == "error at the start" and action is None and (x_0[:, :, 0, 0] == 1).all():
            raise RuntimeError("no way to begin")
        super().commit(x_0, action, cache)

    @staticmethod
    def hit(action):
        return (action == torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])).all(dim=1)


class FlawedHead(OutcomeHead):
    """Heads that fail where a frame has a white corner."""

    flaw = None

    def forward(self, before, after):
        hit = (after[:, :, 0, 0] == 1).all(dim=1)
        if self.flaw == "error in the heads" and hit.any():
            raise ZeroDivisionError("no such reward")
        reward, end = (logits.clone() for logits in super().forward(before, after))
        reward[hit, 1] = torch.nan if self.flaw == "NaN in reward" else 0.0
        end[hit] = torch.nan if self.flaw == "NaN in end" else -9.0
        return reward, end


FLAWS = {
    "NaN in painting": "not finite",
    "NaN in reward": "not finite",
    "NaN in end": "not finite",
    "error in painting": "RuntimeError: the painter fell",
    "error in commit": "RuntimeError: the memory is lost",
    "error in the heads": "ZeroDivisionError: no such reward",
}


@pytest.fixture(scope="module")
def model():
    """In float32 the last bits of a frame depend on its place; bfloat16 is what worlds are loaded in."""
    plain = tiny_world()
    denoiser, heads = plain.denoiser.to(torch.bfloat16), plain.heads.to(torch.bfloat16)
    denoiser.__class__, heads.__class__ = Flawed, FlawedHead
    plain.starts.frames[:, :, 0, 0] = 0
    return WorldModel(plain.info, plain.actions, denoiser, heads, plain.starts)


@pytest.fixture
def flawed(model):
    """Gives the model a flaw for the length of a test."""

    def give(flaw):
        model.denoiser.flaw = model.heads.flaw = flaw

    yield give
    give(None)


@pytest.fixture(scope="module")
def sound(model):
    """Runs without a flaw, by mode and `exact`."""
    return {(mode, exact): run(model, mode, exact) for mode in MODES for exact in (False, True)}


def run(model, mode, exact, hit=None, **settings):
    """Frames, results and infos of each call of a short run; at step `hit[1]` world `hit[0]` takes the trigger."""
    vector = WorldVectorEnv(WORLDS, model, autoreset_mode=mode, exact=exact, max_episode_steps=4, **settings)
    observations, infos = vector.reset(seed=5)
    results = [(observations, *np.zeros((3, WORLDS)), infos)]
    for step in range(STEPS):
        actions = np.array([(5 * world + step) % TRIGGER for world in range(WORLDS)])
        if hit is not None and step == hit[1]:
            actions[hit[0]] = TRIGGER
        results.append(vector.step(actions))
        over = results[-1][2] | results[-1][3]
        if mode is DISABLED and over.any():
            observations, infos = vector.reset(options={"reset_mask": over})
            results[-1] = (*results[-1], observations)
    return results


def of_world(results, world):
    """What a caller sees of one world."""
    return [[each[world].tobytes() for each in result if isinstance(each, np.ndarray)] for result in results]


def check_trial(model, sound, flaw, mode, exact, world, step):
    results = run(model, mode, exact, hit=(world, step))
    for other in set(range(WORLDS)) - {world}:
        # After the fault mode DISABLED resets by a mask more, which adds an observation to that step's result.
        right, seen = of_world(sound[mode, exact], other), of_world(results, other)
        assert [result[:4] for result in seen] == [result[:4] for result in right]
    observations, rewards, terminated, truncated, infos, *after = results[step + 1]
    assert truncated[world] and not terminated[world] and rewards[world] == 0
    assert infos["_fault"].tolist() == [each == world for each in range(WORLDS)]
    assert FLAWS[flaw] in infos["fault"][world] and "\n" not in infos["fault"][world]
    before = results[step][-1] if len(results[step]) == 6 else results[step][0]
    began = {NEXT_STEP: results[min(step + 2, STEPS)][0], SAME_STEP: observations, DISABLED: (after or [None])[0]}[mode]
    last = observations
    if mode is SAME_STEP:
        assert infos["final_info"]["fault"][world] == infos["fault"][world]
        last = {world: infos["final_obs"][world]}
    if "reward" not in flaw and "end" not in flaw:
        assert np.array_equal(last[world], before[world])
    if mode is not NEXT_STEP or step + 2 <= STEPS:
        assert any(np.array_equal(began[world], start) for start in model.starts.frames[:, -1])
    later = [result[-1] if mode is not DISABLED else result[4] for result in results[step + 2 :]]
    assert not any("fault" in infos for infos in later)


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("mode", MODES)
def test_a_fault_in_one_world_changes_no_byte_of_the_others(model, sound, flawed, flaw, mode):
    flawed(flaw)
    rng = np.random.default_rng(MODES.index(mode))
    for exact in (False, True):
        check_trial(model, sound, flaw, mode, exact, rng.integers(WORLDS), rng.integers(3))


@pytest.mark.slow
def test_a_thousand_faults_change_no_byte_of_other_worlds(model, sound, flawed):
    rng = np.random.default_rng(0)
    for trial in range(1000):
        flaw, mode = list(FLAWS)[trial % len(FLAWS)], MODES[trial // 6 % 3]
        flawed(flaw)
        check_trial(model, sound, flaw, mode, bool(trial // 18 % 2), rng.integers(WORLDS), rng.integers(3))


@pytest.mark.parametrize("exact", [False, True])
def test_what_fails_in_every_world_is_raised_and_the_worlds_go_on_as_if_it_had_not_been(model, sound, flawed, exact):
    vector = WorldVectorEnv(WORLDS, model, exact=exact, max_episode_steps=4)
    vector.reset(seed=5)
    flawed("error in painting")
    with pytest.raises(RuntimeError, match="painter"):
        vector.step(np.full(WORLDS, TRIGGER))
    flawed(None)
    for step in range(3):
        observations = vector.step(np.array([(5 * world + step) % TRIGGER for world in range(WORLDS)]))[0]
        assert np.array_equal(observations, sound[NEXT_STEP, exact][step + 1][0])


def test_many_worlds_may_fail_in_one_step(model, flawed):
    flawed("error in painting")
    vector = WorldVectorEnv(7, model)
    vector.reset(seed=5)
    actions = np.array([1, TRIGGER, 2, TRIGGER, TRIGGER, 3, 4])
    _, _, _, truncated, infos = vector.step(actions)
    assert truncated.tolist() == (actions == TRIGGER).tolist() == infos["_fault"].tolist()
    assert vector.step(np.zeros(7, int))[-1]["step"].tolist() == [2, 0, 2, 0, 0, 2, 2]


@pytest.mark.parametrize("flaw", [flaw for flaw in FLAWS if flaw.startswith("NaN")])
def test_a_single_world_is_truncated_named_and_begins_anew_as_one_of_a_batch(model, flawed, flaw):
    flawed(flaw)
    env, batch = WorldEnv(model, ood_every=1), WorldVectorEnv(1, model, autoreset_mode=DISABLED, ood_every=1)
    (observation, info), _ = env.reset(seed=5), batch.reset(seed=5)
    assert "fault" not in env.step(3)[-1] and "fault" not in batch.step([3])[-1]
    observation, *flags, info = env.step(TRIGGER)
    observations, *others, infos = batch.step([TRIGGER])
    assert np.array_equal(observation, observations[0]) and flags == [each[0] for each in others] == [0.0, False, True]
    assert info["fault"] == infos["fault"][0] and "ood" not in info
    with pytest.raises(ResetNeeded, match="episode is over"):
        env.step(1)
    flawed(None)
    env.reset(seed=5)
    assert "fault" not in env.step(TRIGGER)[-1]


def test_an_exception_in_painting_a_single_world_leaves_its_episode_as_it_was(model, flawed):
    env, right = WorldEnv(model, history=3), WorldEnv(model, history=3)
    for each in (env, right):
        each.reset(seed=5)
        each.step(3)
    flawed("error in painting")
    with pytest.raises(RuntimeError, match="painter"):
        env.step(TRIGGER)
    flawed(None)
    assert np.array_equal(env.step(4)[0], right.step(4)[0])
    assert np.array_equal(env.rewind(2)[0], right.rewind(2)[0])


def test_a_start_that_left_a_nan_in_memory_is_worked_out_again(model):
    vector = WorldVectorEnv(2, model, max_episode_steps=-1)
    vector.reset(seed=5, options={"start": 1})
    for memory in vector._memories.values():
        memory.cache.previous.fill_(torch.nan)
    vector.reset(seed=5, options={"start": 1})
    assert vector.step([1, 2])[3].all()
    vector.reset(seed=5, options={"start": 1})
    assert not vector.step([1, 2])[3].any()


# --- start loaders ---


class Loader:
    """Gives every world the start of its own number, until world 1 is asked a second time."""

    def __init__(self, behave=None):
        self.behave, self.asked, self.lock = behave, [0] * WORLDS, threading.Lock()

    def __call__(self, world, rng):
        with self.lock:
            self.asked[world] += 1
        if world == 1 and self.asked[1] == 2 and self.behave is not None:
            return self.behave()
        return {"start": world}


def fail():
    raise KeyError("the file is gone")


def hang():
    threading.Event().wait(30)


BEHAVIOURS = {
    "an error": (fail, "KeyError: 'the file is gone'"),
    "an exit": (lambda: exit(1), "SystemExit: 1"),
    "silence": (hang, "no answer within 0.2 s"),
    "nothing": (lambda: None, "returned a NoneType"),
    "another option": (lambda: {"steps": 4}, "returned ['steps']"),
    "no such start": (lambda: {"start": 99}, "start=99"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("behave, words", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_a_start_loader_that_fails_or_hangs_is_the_fault_of_one_world(model, mode, behave, words):
    right = run(model, mode, False, start_loader=Loader(), patience_s=5)
    assert all(right[0][-1]["start"] == np.arange(WORLDS))
    vector = WorldVectorEnv(
        WORLDS, model, autoreset_mode=mode, max_episode_steps=4, start_loader=Loader(behave), patience_s=0.2
    )
    results = [vector.reset(seed=5)]
    for step in range(STEPS):
        results.append(vector.step(np.array([(5 * world + step) % TRIGGER for world in range(WORLDS)])))
        over = results[-1][2] | results[-1][3]
        if mode is DISABLED and over.any():
            results.append(vector.reset(options={"reset_mask": over}))
    faults = [result[-1]["fault"] for result in results if "fault" in result[-1]]
    assert len(faults) == 1 and words in faults[0][1] and faults[0][0] is None and faults[0][2] is None
    frames = [result[0] for result in results if len(result) == 5]
    for seen, wanted in zip(frames, right[1:], strict=True):
        assert np.array_equal(seen[[0, 2]], wanted[0][[0, 2]])
    began = [result for result in results if "fault" in result[-1]][0]
    assert any(np.array_equal(began[0][1], start) for start in model.starts.frames[:, -1])


def test_a_world_whose_loader_still_hangs_is_not_asked_again(model):
    release, asked = threading.Event(), []

    def load(world, rng):
        asked.append(world)
        if world == 1 and asked.count(1) == 2:
            release.wait(30)
        return {"start": int(rng.integers(3))}

    vector = WorldVectorEnv(2, model, max_episode_steps=1, start_loader=load, patience_s=0.1)
    vector.reset(seed=5)
    for _ in range(6):
        vector.step([1, 2])
    assert (asked.count(0), asked.count(1)) == (4, 2)
    release.set()
    vector._loader._threads[1].join()
    vector.step([1, 2])
    vector.step([1, 2])
    assert asked.count(1) == 3


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_that_cannot_begin_is_truncated_and_tried_again(model, flawed, mode):
    flawed("error at the start")
    marked = model.starts.frames[0, -2:].copy()
    marked[:, 0, 0] = 255
    past = {"frames": marked, "actions": model.starts.actions[0, -1:]}
    vector = WorldVectorEnv(
        WORLDS, model, max_episode_steps=2, autoreset_mode=mode, start_loader=Loader(lambda: past), patience_s=5
    )
    vector.reset(seed=5)
    vector.step([1, 2, 3])
    results = [vector.step([1, 2, 3])]
    if mode is DISABLED:
        with pytest.raises(RuntimeError, match="no way to begin"):
            vector.reset(options={"reset_mask": np.ones(WORLDS, bool)})
        return
    results += [vector.step([1, 2, 3]) for _ in range(2)]
    failed = 0 if mode is SAME_STEP else 1
    assert results[failed][-1]["fault"].tolist() == [None, "start: RuntimeError: no way to begin", None]
    assert results[failed][3][1]
    assert np.array_equal(results[failed + 1][0][1], model.starts.frames[1, -1])
    assert results[failed + 1][-1]["step"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "asked, kind, words",
    [
        ({"start_loader": 3}, TypeError, "give a function"),
        ({"start_loader": Loader(), "patience_s": 0}, ValueError, "above 0"),
    ],
)
def test_a_loader_that_cannot_be_is_a_one_line_error(model, asked, kind, words):
    with pytest.raises(kind, match=words):
        WorldVectorEnv(1, model, **asked)
