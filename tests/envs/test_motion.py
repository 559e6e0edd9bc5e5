"""Gestures read off the motion of a point, at several rates and with a trembling hand."""

import numpy as np
import pytest

from worldsim_envs.encounter.rules import GESTURES
from worldsim_envs.npc.motion import MEANINGS, MotionReader, count_turns

# Gesture -> the places (seconds, x, y) between which its motion is even.
PATHS = {
    "wave": [(0, 0.5, 0.4), (0.15, 0.65, 0.4), (0.4, 0.4, 0.42), (0.65, 0.65, 0.4), (0.9, 0.4, 0.4)],
    "threaten": [(0, 0.5, 0.5), (0.15, 0.5, 0.35), (0.35, 0.5, 0.6), (0.55, 0.52, 0.35), (0.75, 0.5, 0.6)],
    "bow": [(0, 0.5, 0.4), (0.5, 0.52, 0.7), (1.0, 0.5, 0.42)],
    "strike": [(0, 0.3, 0.5), (0.12, 0.7, 0.48)],
    "give": [(0, 0.3, 0.5), (0.7, 0.65, 0.52)],
    "guard": [(0, 0.5, 0.7), (0.3, 0.5, 0.35)],
}


def points(path, rate, tremor, rng, mirrored=False):
    """A still beginning, the path and a still end, as the points that a device of that rate gives."""
    seconds, x, y = (np.array(column, float) for column in zip(*path, strict=True))
    clock = np.arange(0, seconds[-1] + 0.6, 1 / rate)
    columns = [np.interp(clock - 0.3, seconds, places) + rng.uniform(-tremor, tremor, len(clock)) for places in (x, y)]
    x = 1 - columns[0] if mirrored else columns[0]
    return list(zip(clock, x, columns[1], strict=True))


def read(stream, reader=None):
    reader = reader or MotionReader()
    return [gesture for point in stream if (gesture := reader.feed(*point))]


@pytest.mark.parametrize("rate", [30, 60, 125])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("gesture", GESTURES)
def test_each_motion_is_read_once_and_as_what_it_means(gesture, mirrored, rate):
    for seed in range(3):
        stream = points(PATHS[gesture], rate, 0.006, np.random.default_rng(seed), mirrored)
        assert read(stream) == [gesture]


def test_every_gesture_has_its_motion():
    assert set(MEANINGS) == set(PATHS) == set(GESTURES)


def test_gestures_are_read_one_after_another_without_lifting_the_hand():
    rng, reader, (late, x, y), told = np.random.default_rng(0), MotionReader(), (0.0, 0.3, 0.4), []
    meant = ["wave", "bow", "threaten", "give", "strike"]
    for gesture in meant:
        first = PATHS[gesture][0]
        path = [(seconds, x + column - first[1], y + row - first[2]) for seconds, column, row in PATHS[gesture]]
        stream = points(path, 60, 0.004, rng)
        told += read([(late + seconds, *place) for seconds, *place in stream], reader)
        late, (x, y) = late + stream[-1][0] + 1 / 60, path[-1][1:]
    assert told == meant


def test_a_trembling_hand_at_rest_means_nothing():
    rng = np.random.default_rng(1)
    assert read([(i / 60, *rng.uniform(0.49, 0.51, 2)) for i in range(600)]) == []


def test_it_tells_when_the_motion_began():
    reader = MotionReader()
    read(points(PATHS["bow"], 125, 0.0, np.random.default_rng(0)), reader)
    assert abs(reader.began_s - 0.3) < 0.1


def test_turns_are_counted_beyond_wobbles():
    assert count_turns([0.5] * 5) == count_turns([0.1, 0.5, 0.49, 0.9]) == 0
    assert count_turns([0.1, 0.5, 0.2]) == 1
    assert count_turns([0.5, 0.1, 0.5, 0.1, 0.5]) == 3


@pytest.mark.parametrize("point", [(0, 1.2, 0.5), (0, 0.5, float("nan")), (float("inf"), 0.5, 0.5), (-1.0, 0.5, 0.5)])
def test_a_point_that_is_none_is_refused(point):
    reader = MotionReader()
    reader.feed(0.0, 0.5, 0.5)
    with pytest.raises(ValueError, match="leaves the picture|feed them in order"):
        reader.feed(*point)
