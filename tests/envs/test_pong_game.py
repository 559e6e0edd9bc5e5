import numpy as np
import pytest
from game_kit import mixed_play, score

from worldsim_envs.games import Boxing, Pong, make_game
from worldsim_envs.games.check import check_game

pytestmark = pytest.mark.atari

BALL, GROUND = (236, 236, 236), (144, 72, 17)


@pytest.fixture(scope="module")
def game():
    pytest.importorskip("ale_py")
    with make_game("pong") as game:
        yield game


@pytest.fixture(scope="module")
def played(game):
    return mixed_play(game, 600)


def ball_in(frame):
    rows, columns = np.nonzero((frame[16:, 11:69] > 190).all(axis=-1))
    return (columns.mean() + 11, rows.mean() + 16) if len(rows) else None


def test_pong_keeps_the_contract_of_a_game():
    pytest.importorskip("ale_py")
    check_game(Pong)


def test_positions_read_from_frames_are_those_of_the_state(played):
    frames, states = played
    for locate, column in ((Pong.player_xy, 0), (Pong.opponent_xy, 1)):
        seen = [(xy[1], state[column]) for frame, state in zip(frames, states, strict=True) if (xy := locate(frame))]
        assert len(seen) > 400
        off = np.abs(np.subtract(*np.transpose(seen)))  # the memory is a screen or two ahead of the picture
        assert np.median(off) <= 2.0 and np.quantile(off, 0.99) <= 5.0
        assert np.corrcoef(np.transpose(seen))[0, 1] > 0.99


def test_the_ball_is_where_the_state_says(played):
    pairs = [(ball_in(frame), state[2:]) for frame, state in zip(*played, strict=True) if ball_in(frame)]
    seen, told = (np.array(each) for each in zip(*pairs, strict=True))
    inside = (told[:, 0] > 13) & (told[:, 0] < 67)
    assert inside.sum() > 100
    assert np.nanmedian(np.abs(seen - told)[inside]) <= 1.0


def test_a_picture_without_paddles_has_no_positions():
    empty = np.full((96, 80, 3), GROUND, np.uint8)
    assert Pong.player_xy(empty) is None and Pong.opponent_xy(empty) is None
    with pytest.raises(ValueError, match=r"frame is uint8 \(64, 64, 3\); positions are read from uint8 \(96, 80, 3\)"):
        Pong.player_xy(np.zeros((64, 64, 3), np.uint8))


def test_up_moves_the_paddle_up_and_actions_of_one_class_do_the_same(game):
    game.reset(3)
    for _ in range(40):
        game.step(0)
    start = game.save()
    ends = []
    for action in range(6):
        game.restore(start)
        ends.append(np.stack([game.step(action)[0] for _ in range(4)]))
    classes = Pong.effects["y"]
    assert classes == (0, 0, -1, 1, -1, 1)
    for one in range(6):
        for other in range(6):
            assert np.array_equal(ends[one], ends[other]) == (classes[one] == classes[other])
    assert Pong.player_xy(ends[2][-1])[1] < Pong.player_xy(ends[3][-1])[1]


def test_the_follower_returns_balls_that_a_random_player_misses(game):
    assert score(game, "follower", 700) > score(game, "random", 700) + 3


def test_boxings_effects_are_its_four_ways():
    assert Boxing.effects["x"][:6] == (0, 0, 0, 1, -1, 0)
    assert Boxing.effects["y"][:6] == (0, 0, -1, 0, 0, 1)
