import numpy as np
import pytest
from game_kit import mixed_play, score

from worldsim_envs.games import make_game
from worldsim_envs.games.check import check_game
from worldsim_envs.games.freeway import WATCHED_LANE, Freeway

pytestmark = pytest.mark.atari

WATCHED = 1 + WATCHED_LANE


@pytest.fixture(scope="module")
def game():
    pytest.importorskip("ale_py")
    with make_game("freeway") as game:
        yield game


@pytest.fixture(scope="module")
def played(game):
    return mixed_play(game, 600)


def test_freeway_keeps_the_contract_of_a_game():
    pytest.importorskip("ale_py")
    check_game(Freeway)


def test_the_chicken_read_from_frames_is_where_the_state_says(played):
    frames, states = played
    seen = [(xy[1], state[0]) for frame, state in zip(frames, states, strict=True) if (xy := Freeway.player_xy(frame))]
    assert len(seen) > 540
    off = np.abs(np.subtract(*np.transpose(seen)))
    assert np.median(off) <= 1.0 and np.quantile(off, 0.95) <= 2.5


def test_the_dark_blue_car_read_from_frames_is_where_the_state_says(played):
    frames, states = played
    pairs = [
        (xy[0], state[WATCHED]) for frame, state in zip(*played, strict=True) if (xy := Freeway.opponent_xy(frame))
    ]
    assert len(pairs) > 0.9 * len(frames)
    inside = [pair for pair in pairs if 4 < pair[1] < 60]
    assert np.quantile(np.abs(np.subtract(*np.transpose(inside))), 0.99) <= 1.5
    assert states.shape == (601, len(Freeway.state_names))


def test_the_cars_drive_alike_whatever_the_player_does(game):
    for seed in range(3):
        game.reset(seed)
        start, cars, rows = game.save(), [], []
        for action in (0, 1, 2):
            game.restore(start)
            states = [(game.step(action), game.visible_state())[1] for _ in range(60)]
            cars.append(np.stack(states)[:, 1:])
            rows.append(states[20][0])
        assert np.array_equal(cars[0], cars[1]) and np.array_equal(cars[0], cars[2])
        assert len(np.unique(cars[0], axis=0)) > 30  # they do drive
        assert rows[1] < rows[2]


def test_who_walks_up_crosses_the_road(game):
    assert score(game, "up", 400) >= 3


def test_a_picture_without_chicken_and_cars_has_no_positions():
    road = np.full((64, 64, 3), 142, np.uint8)
    assert Freeway.player_xy(road) is None and Freeway.opponent_xy(road) is None
    with pytest.raises(ValueError, match=r"frame is uint8 \(96, 80, 3\); positions are read from uint8 \(64, 64, 3\)"):
        Freeway.player_xy(np.zeros((96, 80, 3), np.uint8))
