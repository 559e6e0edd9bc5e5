import numpy as np
import pytest

from worldsim_envs.games import make_game
from worldsim_envs.games.check import check_game
from worldsim_envs.games.doom import FOCAL_PIXELS, TakeCover, fireballs

pytestmark = pytest.mark.doom


@pytest.fixture(scope="module")
def game():
    pytest.importorskip("vizdoom")
    with make_game("take_cover") as game:
        yield game


@pytest.fixture(scope="module")
def played(game):
    """Frames, rewards and states of an episode of random play, to its end."""
    choose = game.policies()["random"](np.random.default_rng(4))
    frames, rewards, states, ended = [game.reset(4)], [], [game.visible_state()], False
    while not ended:
        frame, reward, ended = game.step(choose(game))
        frames.append(frame)
        rewards.append(reward)
        states.append(game.visible_state())
    return np.stack(frames), rewards, np.stack(states)


def test_take_cover_keeps_the_contract_of_a_game():
    pytest.importorskip("vizdoom")
    check_game(TakeCover, steps=30)


def test_the_last_frame_is_no_black_one(played):
    frames, _, states = played
    np.testing.assert_array_equal(frames[-1], frames[-2])
    assert frames.mean(axis=(1, 2, 3)).min() > 30
    assert np.isnan(states[-1]).all()


def test_the_reward_is_a_point_for_every_tic_alive(played):
    rewards = played[1]
    assert set(rewards[:-1]) == {4.0} and 0 <= rewards[-1] <= 4


def test_the_place_read_from_frames_is_where_the_state_says(played):
    frames, _, states = played
    pairs = [
        (xy[0], state[0]) for frame, state in zip(frames, states, strict=True) if (xy := TakeCover.player_xy(frame))
    ]
    assert len(pairs) > 0.9 * len(frames)
    off = np.abs(np.subtract(*np.transpose(pairs)))
    assert np.nanmedian(off) <= 1.5 and np.nanquantile(off, 0.95) <= 5.0
    with pytest.raises(ValueError, match=r"frame is uint8 \(64, 64, 3\); positions are read from uint8 \(96, 128, 3\)"):
        TakeCover.player_xy(np.zeros((64, 64, 3), np.uint8))
    assert TakeCover.player_xy(np.zeros((96, 128, 3), np.uint8)) is None


def test_left_and_right_move_opposite_ways_and_branches_are_exact(game):
    game.reset(7)
    for _ in range(5):
        game.step(0)
    start, ends = game.save(), []
    for action in (1, 2, 1):
        game.restore(start)
        ends.append([game.step(action)[0] for _ in range(6)])
    np.testing.assert_array_equal(ends[0], ends[2])
    places = [TakeCover.player_xy(frames[-1])[0] for frames in ends]
    assert places[1] > places[0] + 10


def test_a_fireball_straight_ahead_is_in_the_middle_and_one_that_flies_away_is_none():
    player, ahead = np.array([-416.0, 300, 0, 0]), np.array([-16.0, 300, -10, 0])
    right, gone = ahead + (0, -100, 0, 0), ahead * (1, 1, -1, 1)
    things = [("DoomPlayer", player), ("DoomImpBall", right), ("DoomImpBall", ahead), ("DoomImpBall", gone)]
    assert [column for column, _ in fireballs(things)] == [63.5 + FOCAL_PIXELS / 4, 63.5]


def test_the_dodger_outlives_a_random_player(game):
    def tics(policy):
        total = 0.0
        for seed in range(4):
            choose, ended = game.policies()[policy](np.random.default_rng(seed)), False
            game.reset(seed)
            for _ in range(300):
                if not ended:
                    _, reward, ended = game.step(choose(game))
                    total += reward
        return total

    assert tics("dodger") > 1.3 * tics("random")
