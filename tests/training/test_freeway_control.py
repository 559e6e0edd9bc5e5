"""Freeway as the battery's negative control: a world whose cars react to the player must not pass."""

from dataclasses import replace

import numpy as np
import pytest

from worldsim_envs.games import make_game
from worldsim_training.battery.bars import failed
from worldsim_training.battery.broken import OtherShow
from worldsim_training.battery.simulator import RealSimulator
from worldsim_training.battery.tryouts import Size, set_up
from worldsim_training.heldout import record_heldout

pytestmark = pytest.mark.atari

DODGE_PIXELS = 6
ROAD = slice(8, 61)
INSTRUMENTS = ("counterfactuals", "onset")


@pytest.fixture(scope="module")
def trial():
    """The battery's branches in Freeway, and the real game as a simulator."""
    pytest.importorskip("ale_py")
    with make_game("freeway") as game:
        heldout = record_heldout(game, split="validation", seed=0, episodes=2, max_steps=100, save_every=4)
        bench = set_up(game, heldout, Size(branches=12), past=4, seed=0, names=INSTRUMENTS)
        yield bench, RealSimulator(game, heldout)


def dodging(past, played, seeds):
    """The road is shifted in the second of two branches, as if the drivers had seen the player."""
    frames = played.frames.copy()
    frames[:, 1, :, ROAD] = np.roll(frames[:, 1, :, ROAD], DODGE_PIXELS, axis=-2)
    return replace(played, frames=frames)


def test_the_real_cars_do_not_react_and_all_that_no_action_reaches_stays(trial):
    bench, real = trial
    figures = bench.score(real)
    assert not bench.refused and not failed(figures)
    assert [figures[f"onset_state_{h}"] for h in (1, 2, 4, 8, 16)] == [0.0] * 5
    assert figures["onset_16"] == 0.0 and figures["counterfactual_untouched"] == 1.0


def test_cars_that_react_are_flagged(trial):
    bench, real = trial
    figures = bench.score(OtherShow(real, dodging))
    assert {"onset_error", "counterfactual_untouched"} <= set(failed(figures))
    assert figures["onset_16"] > 0.9
