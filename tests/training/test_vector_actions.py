"""The battery in a game whose own action is a vector of axes and pedals."""

import numpy as np
import pytest
from toy_game import ToyGame, advance, draw, read
from toy_worlds import RealWorld

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games import make_game
from worldsim_training import imagine
from worldsim_training.battery.bars import failed
from worldsim_training.battery.broken import broken
from worldsim_training.battery.futures import branch_futures, random_futures
from worldsim_training.battery.simulator import Past, RealSimulator
from worldsim_training.battery.tryouts import Size, set_up
from worldsim_training.heldout import Moment, record_heldout
from worldsim_training.report.strips import Artist, frames_painted


def buttons(vector):
    """The toy game's four buttons of a vector of left, right and the axis climb."""
    left, right, climb = vector
    return max(climb, 0), max(-climb, 0), left, right


class VectorGame(ToyGame):
    """The toy game whose own action is a vector: two buttons, and an axis."""

    name = "vector toy"
    actions = ActionSpec([Channel("left"), Channel("right"), Channel("climb", "axis")])
    choices = ((0, 0, 0), (1, 0, 0), (0, 1, 1), (0, 0, -1))

    def step(self, action):
        self.state = advance(self.state, buttons(self.actions.encode(action)))
        self.steps += 1
        return draw(self.state), 0.0, self.steps >= self.max_episode_steps


class VectorWorld(RealWorld):
    """The vector toy with the face of a world."""

    actions = VectorGame.actions

    def reset(self, frames, actions, seeds):
        return super().reset(frames, np.zeros((*actions.shape[:2], 4)), seeds)

    def follow(self, state, vector):
        return advance(state, buttons(vector))


@pytest.fixture(scope="module")
def heldout():
    return record_heldout(VectorGame(), split="validation", seed=0, episodes=2, max_steps=60, save_every=4)


def test_every_broken_copy_plays_vectors_and_hears_what_its_fault_says(heldout):
    game, past = VectorGame(), Past.of(heldout, [Moment(0, 12), Moment(1, 20)], 4)
    sound = RealSimulator(game, heldout)
    actions = np.broadcast_to(np.array([0, 1, 1], np.float32), (2, 1, 24, 3))
    copies = broken(game, sound)
    shown = {name: copy.play(past, actions, np.arange(2)).frames for name, copy in copies.items()}
    assert {frames.shape for frames in shown.values()} == {(2, 1, 24, 48, 64, 3)}
    turned = np.broadcast_to(np.array([1, 0, -1], np.float32), actions.shape)
    assert np.array_equal(shown["swaps directions"], sound.play(past, turned, np.arange(2)).frames)
    late = np.concatenate([past.actions[:, None, -1:], actions[:, :, 1:]], axis=2)
    assert np.array_equal(shown["late by one step"], sound.play(past, late, np.arange(2)).frames)
    lost = np.stack([np.random.default_rng(seed).random(24) < 0.2 for seed in range(2)])
    heard = np.where(lost[:, None, :, None], 0, actions).astype(np.float32)
    assert 0 < lost.sum() < 24 and np.array_equal(shown["drops actions"], sound.play(past, heard, np.arange(2)).frames)


def test_the_action_strip_has_a_row_for_every_named_vector(heldout):
    artist = Artist(VectorWorld(), VectorGame(), heldout, imagine.Settings(steps=1, batch=4), 0, (0, 3, 9))
    strip = artist.actions()
    assert strip.rows == ["rest", "left", "right  climb +1.0", "climb -1.0"]
    assert strip.frames.shape == (4, 6, 48, 64, 3) and np.array_equal(strip.frames[:, :3], strip.frames[:, 3:])
    (x, y, _), *others = (read(frame) for frame in strip.frames[:, 0])
    assert [(one[0] - x, one[1] - y) for one in others] == [(-4, 0), (4, -4), (0, 4)]
    assert frames_painted(VectorGame(), (0, 3, 9)) == 2 * 16 + 4 * 8 + 2 * 9


def test_exact_branches_pass_the_real_game_and_flag_one_that_ignores_actions():
    pytest.importorskip("Box2D")
    with make_game("carracing") as game:
        heldout = record_heldout(game, split="validation", seed=0, episodes=1, max_steps=24, save_every=4)
        bench = set_up(game, heldout, Size(branches=3, steps=4), past=4, seed=0, names=("control",))
        assert not bench.refused and bench.futures["branches"].actions.shape == (3, 2, 4, 3)
        real = RealSimulator(game, heldout)
        sound, deaf = (bench.score(each) for each in (real, broken(game, real)["ignores actions"]))
    assert not failed(sound) and sound["control_c"] == 1.0
    assert "control_c" in failed(deaf)


def test_the_battery_plays_its_own_actions_under_the_conditions_that_held():
    with make_game("encounter") as game:
        heldout = record_heldout(game, split="validation", seed=0, episodes=3, max_steps=60, save_every=8)
        spec = game.actions
        for futures in (
            random_futures(game, heldout, 6, 4, past=4, rng=np.random.default_rng(0)),
            branch_futures(game, heldout, 6, 4, past=4, rng=np.random.default_rng(0)),
        ):
            for moment, branches in zip(futures.past.moments, futures.actions, strict=True):
                held = spec.conditions_of(heldout.episodes[moment.episode].actions[moment.frame - 1])
                assert all(spec.conditions_of(vector) == held for branch in branches for vector in branch)
                assert all(vector.max() == 1 for branch in branches for vector in branch)
