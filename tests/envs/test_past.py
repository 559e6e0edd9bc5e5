"""Moments of a real game from which a world goes on."""

import numpy as np
import pytest

from worldsim_envs.games.past import real_past


class Short:
    """A game whose random play ends after so many steps."""

    def __init__(self, steps):
        self.steps, self.resets = steps, 0

    def policies(self):
        return {"random": lambda rng: lambda game: 0}

    def reset(self, seed):
        self.now, self.resets = 0, self.resets + 1
        return np.zeros((4, 4, 3), np.uint8)

    def step(self, action):
        self.now += 1
        return np.full((4, 4, 3), self.now, np.uint8), 0.0, self.now == self.steps


@pytest.mark.parametrize(("steps", "last", "length"), [(1000, None, 4), (30, 3, 4), (3, 0, 1)])
def test_a_past_is_found_in_a_game_whose_random_play_is_short_too(steps, last, length):
    game = Short(steps)
    frames, actions = real_past(game, 4, np.random.default_rng(0))
    assert len(frames) == length and len(actions) == length - 1 and game.resets <= 101
    assert last is None or frames[-1].max() == last
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(frames[0][0, 0, 0], frames[0][0, 0, 0] + length))


def test_a_seed_draws_the_opening_then_how_long_it_leads_in():
    """Clips in the documents name their seeds."""
    draws = np.random.default_rng(3)
    draws.integers(2**31)
    frames, _ = real_past(Short(1000), 4, np.random.default_rng(3))
    assert frames[-1].max() == 3 + draws.integers(40, 120)
