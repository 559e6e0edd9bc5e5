"""Instruments fitted to the real game: the distance of features, rewards that are seen, the opponent's habits."""

from dataclasses import replace

import numpy as np
import pytest
from toy_game import CHANNELS, PERIOD, ToyGame, advance, draw, read

from worldsim_training.battery.bars import failed
from worldsim_training.battery.broken import OtherShow, broken
from worldsim_training.battery.feature_tests import played_looks, score_ends
from worldsim_training.battery.simulator import RealSimulator
from worldsim_training.battery.traces import random_trace
from worldsim_training.battery.tryouts import Size, set_up
from worldsim_training.heldout import record_heldout

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("features", "seen_rewards", "opponent")
LEFT = 1 + CHANNELS.index("left")
SIZE = Size(windows=40, window_steps=52, state_steps=(16,), traces=4, probe_steps=150, detector_steps=150)


class TellingGame(ToyGame):
    """The toy game that tells its state and pays 1 whenever the opponent passes the top or the bottom of its round."""

    name = "telling toy"
    state_names = ("player_x", "player_y", "opponent_x", "opponent_y")

    def step(self, action):
        frame, _, ended = super().step(action)
        return frame, float(self.state[2] % (PERIOD // 2) == PERIOD // 4), ended

    def visible_state(self):
        frame = draw(self.state)
        opponent = self.opponent_xy(frame) or (np.nan, np.nan)
        return np.array([*self.player_xy(frame), *opponent])


class MeanGame(TellingGame):
    """The same, but it pays nothing."""

    name = "mean toy"

    def step(self, action):
        frame, _, ended = super().step(action)
        return frame, 0.0, ended


class WhimsicalGame(TellingGame):
    """The same, but its opponent jumps about, which nothing that is seen foretells."""

    name = "whimsical toy"

    def step(self, action):
        self.state = (*advance(self.state, (0, 0, 0, 0))[:2], (self.state[2] * 29 + self.steps * 7 + 3) % PERIOD)
        return super().step(action)


def recorded(game):
    return record_heldout(game, split="validation", seed=0, episodes=4, max_steps=340, save_every=8)


@pytest.fixture(scope="module")
def tried():
    game = TellingGame()
    heldout = recorded(game)
    bench = set_up(game, heldout, SIZE, past=4, seed=0, names=NAMES)
    return game, heldout, bench


def score(tried, simulator, *names):
    return tried[2].score(simulator, names or NAMES)


def copies(tried):
    game, heldout, _ = tried
    return broken(game, RealSimulator(game, heldout))


def test_the_real_game_passes_all_three_at_their_ceilings(tried):
    game, heldout, bench = tried
    assert bench.refused == {}
    figures = score(tried, RealSimulator(game, heldout))
    assert failed(figures) == []
    assert figures["fd_self"] == pytest.approx(0.0, abs=1e-6) and figures["fd_floor"] > 0
    assert figures["reward_seen_ratio"] == 1.0 and figures["reward_detector_real_f1"] > 0.9
    assert figures["opponent_ratio"] == 1.0 and figures["opponent_real_accuracy"] > 0.9
    assert figures["opponent_habits"] == 0.0 <= figures["opponent_habits_floor"] < 0.3
    assert figures["opponent_ratio_low"] <= 1.0 <= figures["opponent_ratio_high"]


@pytest.mark.parametrize("name", ["frozen", "blurred", "colours drift", "opponent erased"])
def test_frames_that_look_otherwise_are_far_in_features(tried, name):
    assert "fd_share" in failed(score(tried, copies(tried)[name], "features"))


def test_the_ends_of_rollouts_are_held_against_real_frames_that_are_as_few(tried):
    _, heldout, bench = tried
    windows = [*heldout.cut([0, 1, 2], 52)]
    ends = np.stack([*heldout.cut([3], 52)])
    looks = played_looks(bench.looks, windows, len(ends))
    assert len(windows) == 18 and len(ends) == 6 and looks.floor > bench.looks.floor
    real, recoloured = (score_ends(looks, frames) for frames in (ends, ends[..., ::-1]))
    assert real["end_fd_share"] == real["end_fd_self"] / real["end_fd_floor"] < 3 < recoloured["end_fd_share"]
    with pytest.raises(ValueError, match="18 real windows for the ends of 10 rollouts; it takes 20"):
        played_looks(bench.looks, windows, 10)


def test_rewards_that_its_own_frames_do_not_show_are_flagged_and_a_blind_distance_is_not(tried):
    figures = score(tried, copies(tried)["wrong rewards"])
    assert failed(figures) == ["reward_seen_ratio"] and figures["reward_seen_ratio"] == 0.0


def test_rewards_that_fit_the_frames_pass_whatever_is_played(tried):
    figures = score(tried, copies(tried)["ignores actions"], "seen_rewards")
    assert "reward_seen_ratio" in figures and failed(figures) == []


def test_an_opponent_with_other_habits_is_flagged(tried):
    game, heldout, _ = tried

    def backwards(past, played, seeds):
        return replace(played, frames=played.frames[:, :, ::-1])

    figures = score(tried, OtherShow(RealSimulator(game, heldout), backwards), "opponent")
    assert "opponent_ratio" in failed(figures)
    assert figures["opponent_habits"] > max(0.5, 2 * figures["opponent_habits_floor"])


def test_an_opponent_that_is_not_seen_has_no_habits(tried):
    figures = score(tried, copies(tried)["opponent erased"], "opponent")
    assert np.isnan(figures["opponent_ratio"]) or "opponent_ratio" in failed(figures)


@pytest.mark.parametrize(
    ("kind", "size", "name", "reason"),
    [
        (ToyGame, SIZE, "features", "toy does not tell its state"),
        (
            TellingGame,
            replace(SIZE, windows=8),
            "features",
            "408 real frames for the distance of features; it takes 2000",
        ),
        (MeanGame, SIZE, "seen_rewards", "mean toy paid 0 times"),
        (
            TellingGame,
            replace(SIZE, detector_steps=1),
            "seen_rewards",
            "the reward detector scores 0.00 on real frames",
        ),
        (WhimsicalGame, SIZE, "opponent", "on real frames the opponent's next move is foretold with"),
    ],
)
def test_an_instrument_that_fails_on_the_real_game_gives_its_reason_and_no_figure(kind, size, name, reason):
    game = kind()
    heldout = recorded(game)
    bench = set_up(game, heldout, replace(size, traces=2, probe_steps=20), past=4, seed=0, names=(name,))
    assert reason in bench.refused[name]
    assert bench.score(RealSimulator(game, heldout), (name,)) == {f"refused_{name}": bench.refused[name]}


class ShortGame(ToyGame):
    """Cut off after 9 steps, sooner than most leads of a policy end; each pays what is left. Its policy goes left."""

    def reset(self, seed):
        self.remaining = 9
        return super().reset(seed)

    def step(self, action):
        frame, _, ended = super().step(action)
        self.remaining -= 1
        return frame, float(self.remaining), ended or not self.remaining

    @classmethod
    def policies(cls):
        return {"left": lambda rng: lambda game: LEFT}


def test_a_random_trace_of_a_game_that_ends_soon_is_random_play_all_the_same():
    game, leads, played = ShortGame(), [], []
    for i in range(20):
        trace = random_trace(game, "left", (0, 97, i), steps=5)
        clock = read(game.reset(np.random.SeedSequence((0, 97, i))))[-1]
        leads.append((read(trace.frames[0])[-1] - clock) % PERIOD)
        whole = [game.step(action) for action in (*[LEFT] * leads[-1], *trace.actions)]
        frames, rewards, ended = zip(*whole[leads[-1] :], strict=True)
        assert np.array_equal(trace.frames[1:], frames) and np.array_equal(trace.rewards, rewards)
        assert len(rewards) == 5 or ended[-1]
        played.append(tuple(trace.actions))
    assert len({*leads}) > 3 and {len(actions) for actions in played} == {1, 2, 3, 4, 5}
    assert {action for actions in played for action in actions} == {actions[0] for actions in played} == {*range(5)}
