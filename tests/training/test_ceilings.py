"""What luck alone costs a forecast, measured on games whose luck is known."""

import numpy as np
import pytest
from counting_game import CountingGame
from toy_game import ToyGame

from worldsim_envs.games.policies import HeldRandom
from worldsim_training import ceilings
from worldsim_training.heldout import record_heldout

DARK, LIGHT = 60, 180
AHEAD = 2


class CoinGame(ToyGame):
    """Shows, light or dark, the coin that was thrown two steps before; its luck is the seed of the next throws."""

    name, height, width = "coin", 4, 6

    def reset(self, seed):
        self.coins, self.thrower, self.steps = (0,) * (AHEAD + 1), int(np.random.default_rng(seed).integers(2**31)), 0
        return self.draw()

    def step(self, action):
        rng = np.random.default_rng(self.thrower)
        self.coins, self.thrower = (*self.coins[1:], int(rng.integers(2))), int(rng.integers(2**31))
        self.steps += 1
        return self.draw(), 0.0, self.steps >= self.max_episode_steps

    def draw(self):
        return np.full((self.height, self.width, 3), (DARK, LIGHT)[self.coins[0]], np.uint8)

    def save(self):
        return self.coins, self.thrower, self.steps

    def restore(self, state):
        self.coins, self.thrower, self.steps = state
        return self.draw()

    def luck(self):
        return self.thrower

    def set_luck(self, luck):
        self.thrower = luck

    def reroll(self, rng):
        self.thrower = int(rng.integers(2**31))

    @classmethod
    def policies(cls):
        return {"random": HeldRandom}


class LeakingGame(CoinGame):
    """Its re-roll also changes what was thrown before."""

    def reroll(self, rng):
        super().reroll(rng)
        self.coins = tuple(rng.integers(2, size=len(self.coins)).tolist())


class FixedGame(CoinGame):
    """Its re-roll does nothing."""

    def reroll(self, rng):
        pass


def ceilings_of(game, windows=200, **options):
    heldout = record_heldout(game, split="validation", seed=0, episodes=4, max_steps=340, save_every=8)
    moments = heldout.moments(windows, past=4, future=8, rng=np.random.default_rng(1))
    amount = {"horizons": (1, AHEAD, AHEAD + 1, 8), "branches": 8, "rng": np.random.default_rng(2)}
    return ceilings.measure_ceilings(game, heldout, moments, **amount, **options)


@pytest.fixture(scope="module")
def coins():
    return ceilings_of(CoinGame())


def test_what_was_thrown_before_a_reroll_comes_as_recorded(coins):
    half_differ = 10 * np.log10(255**2 / (0.5 * (LIGHT - DARK) ** 2))
    for h in (1, AHEAD):
        assert coins[f"reroll_{h}_db"] == coins[f"reroll_mean_{h}_db"] == pytest.approx(68.13 - half_differ, abs=0.7)


def test_other_coins_gain_nothing_and_their_mean_what_the_formula_says(coins):
    for h in (AHEAD + 1, 8):
        assert coins[f"reroll_{h}_db"] == pytest.approx(0.0, abs=0.7)
        assert coins[f"reroll_{h}_db_low"] < coins[f"reroll_{h}_db"] < coins[f"reroll_{h}_db_high"]
        better = coins[f"reroll_mean_{h}_db"] - coins[f"reroll_{h}_db"]
        assert better == pytest.approx(10 * np.log10(2 / (1 + 1 / 8)), abs=0.2)


def test_the_steps_played_are_told_and_the_states_counted():
    told = []
    report = ceilings_of(CoinGame(), windows=6, progress=told.append)
    assert sum(told) == 6 * (8 + 1) * 8
    assert (report["reroll_states"], report["reroll_branches"]) == (6, 8)


@pytest.mark.parametrize(
    ("game", "message"),
    [
        (
            LeakingGame,
            r"re-roll refused: with its own luck back coin differs from its recording \(episode 0, frame \d+\)",
        ),
        (FixedGame, "re-roll refused: in 6 windows other luck changed nothing in coin"),
    ],
)
def test_a_reroll_that_changes_more_or_less_than_luck_is_refused(game, message):
    with pytest.raises(ValueError, match=message):
        ceilings_of(game(), windows=6)


def test_a_game_that_ends_early_shows_its_last_frame_from_there_on():
    game = CountingGame()
    game.reset(0)
    counts = ceilings.play_on(game, [0] * 20)[:, 0, 0, 0].tolist()
    assert game.length < 20 and counts == [min(step, game.length) for step in range(1, 21)]


def test_a_game_without_known_luck_says_so():
    game = CountingGame()
    game.reset(0)
    assert game.luck() is None
    for change in (lambda: game.set_luck(1), lambda: game.reroll(np.random.default_rng(0))):
        with pytest.raises(NotImplementedError, match="counting has no luck"):
            change()
