"""The opponent's answers: on drawn branches whose figures are known, on worlds of a game in which nobody answers."""

import numpy as np
import pytest
from toy_game import BLACK, GRASS, HEIGHT, SIZE, WHITE, WIDTH, ToyGame
from toy_worlds import RealWorld

from worldsim_training import opponent
from worldsim_training.battery.futures import Futures
from worldsim_training.battery.simulator import Past, Played
from worldsim_training.heldout import Moment

pytestmark = pytest.mark.usefixtures("one_thread")
NEVER = opponent.STEPS + 1


def picture(player, rival):
    frame = np.full((HEIGHT, WIDTH, 3), GRASS, np.uint8)
    for x, colour in ((player, WHITE), (rival, BLACK)):
        frame[20 : 20 + SIZE, x : x + SIZE] = colour
    return frame


def branches(*parting):
    """Played branches of each state, the second's opponent going off at a step, by so many pixels."""
    frames = [
        [[picture(2, 30 + branch * way * (step >= at)) for step in range(1, opponent.STEPS + 1)] for branch in (0, 1)]
        for at, way in parting
    ]
    shape = (len(parting), 2, opponent.STEPS)
    return Played(np.array(frames), np.zeros(shape, np.float32), np.zeros(shape, bool))


def drawn(real):
    """Futures of which these are real: the player stands near in every other state; two states an episode."""
    count = len(real.frames)
    now = np.stack([picture(20 if i % 2 == 0 else 2, 30) for i in range(count)])[:, None]
    past = Past(now, np.zeros((count, 0), int), [Moment(i // 2, 9) for i in range(count)])
    return Futures(past, np.zeros((count, 2, opponent.STEPS), int), np.arange(count), real, None)


def compare(real, shown):
    return opponent.compare(ToyGame(), drawn(real), shown, np.random.default_rng(0))


def test_how_often_how_soon_and_where_are_those_that_were_drawn():
    real = branches((1, 8), (2, 8), (3, -8), (16, 8))
    figures = compare(real, branches((1, 8), (4, 8), (3, 8), (NEVER, 8)))
    onsets = [[figures[f"{name}_{h}"] for h in (1, 2, 4, 8, 16)] for name in ("onset_real", "onset", "onset_gap")]
    assert onsets == [[0.25, 0.5, 0.75, 0.75, 1], [0.25, 0.25, 0.75, 0.75, 0.75], [0, -0.25, 0, 0, -0.25]]
    assert figures["onset_error"] == 0.25 and "at most 0.1: missed" in opponent.table(figures)
    assert (figures["answer_step"], figures["answer_step_real"]) == (pytest.approx(8 / 3), 2)
    assert figures["answer_step_error"] == pytest.approx(2 / 3)
    assert (figures["near"], figures["far"], figures["near_real"], figures["far_real"]) == (1, 0.5, 1, 0.5)
    assert (figures["states"], figures["episodes"]) == (4, 2)
    for h in (1, 2, 4, 8, 16):
        for name in ("onset", "onset_real", "onset_gap"):
            assert figures[f"{name}_{h}_low"] <= figures[f"{name}_{h}"] <= figures[f"{name}_{h}_high"]


def test_one_who_answers_to_the_wrong_side_is_found_out_by_where_alone():
    real = branches((1, 8), (2, -8), (3, -4), (4, 6))
    same, other = compare(real, real), compare(real, branches((1, -8), (2, 8), (3, 4), (4, -6)))
    assert same["where"] == pytest.approx(1) and same["onset_error"] == 0
    assert other["where"] == pytest.approx(-1) and other["onset_error"] == 0
    assert "at most 0.1: met" in opponent.table(other)


class Brief(ToyGame):
    max_episode_steps = 60


class Follower(RealWorld):
    """Its opponent's clock runs on faster while the player walks right."""

    def follow(self, state, vector):
        x, y, clock = super().follow(state, vector)
        return x, y, (clock + 3 * int(vector[3] > 0.5)) % WIDTH


def test_a_world_is_held_against_its_game_in_which_nobody_answers():
    numbers = {"states": 40, "split": "validation", "seed": 0, "steps": 2}
    sound, follower = (opponent.measure(world, Brief(), **numbers) for world in (RealWorld(), Follower()))
    assert sound["onset_error"] == sound["onset_gap_16"] == 0 and sound["states"] == 40
    assert sound["onset_16"] < 0.3  # where the player walks in front of the opponent
    assert follower["onset_error"] > 0.15 and follower["onset_16"] > sound["onset_16"]
    assert not any(name.startswith("luck_") for name in sound)
    assert opponent.measure(Follower(), Brief(), **numbers) == pytest.approx(follower, nan_ok=True)
