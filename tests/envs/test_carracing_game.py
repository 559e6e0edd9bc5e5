import gymnasium as gym
import numpy as np
import pytest
from game_kit import score

from worldsim.player.controls import Keys, scripted, vector
from worldsim_envs.games import game_actions, make_game
from worldsim_envs.games.carracing import ZOOM_SCREENS
from worldsim_envs.games.check import check_game

SPEC = game_actions("carracing")
REST = SPEC.vector()


@pytest.fixture(scope="module")
def game():
    pytest.importorskip("Box2D")
    with make_game("carracing") as game:
        yield game


def test_carracing_keeps_the_contract_of_a_game(game):
    check_game(type(game), steps=10)


def test_the_action_space_is_the_sources_own(game):
    assert SPEC.space() == game.env.unwrapped.action_space
    assert SPEC.channel_space() == SPEC.space()
    with pytest.raises(ValueError, match="buttons are 0 or 1, pedals 0 to 1, axes -1 to 1"):
        game.actions.encode(np.array([0, -0.1, 0], np.float32))


def test_frames_are_those_of_the_source(game):
    shown = game.reset(5)
    source = gym.make("CarRacing-v3").unwrapped
    source.reset(seed=game.save().seed)
    for action in game.save().actions:
        picture = source.step(action)[0]
    np.testing.assert_array_equal(shown, picture)
    assert len(game.save().actions) >= ZOOM_SCREENS and not (shown[:80] == 0).all(axis=-1).any()


def test_opposite_steering_turns_the_car_opposite_ways(game):
    game.reset(3)
    for _ in range(15):
        game.step(SPEC.vector(gas=0.6))
    start, noses = game.save(), []
    for steer in (-0.5, 0.5):
        game.restore(start)
        before = game.car()[1]
        for _ in range(6):
            game.step(SPEC.vector(steer=steer))
        after = game.car()[1]
        noses.append(before[0] * after[1] - before[1] * after[0])
    assert noses[0] > 0.02 and noses[1] < -0.02  # counterclockwise is left


def test_the_driver_follows_the_road_that_a_random_player_leaves(game):
    assert score(game, "driver", 100) > score(game, "random", 100) + 10


def test_keys_and_a_gamepad_drive():
    np.testing.assert_array_equal(vector(SPEC, Keys(frozenset({"left", "up"}))), [-1, 1, 0])
    np.testing.assert_array_equal(vector(SPEC, Keys(frozenset({"left", "right", "s"}))), [0, 0, 1])
    np.testing.assert_array_equal(vector(SPEC, Keys(frozenset({"pad 0"}), stick=(0.25, 0.9))), [0.25, 1, 0])
    assert [action.tolist() for action in scripted("steer+&gas*2,rest", SPEC)] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_the_last_frames_of_a_drive_off_the_field_are_those_before_its_end(game):
    game.reset(8)
    start, drive = game.save(), [SPEC.vector(gas=0.4)] * 200
    last = game.last_frames(drive, 3)
    steps = (len(game.save().actions) - len(start.actions) + 1) // 2
    assert 80 < steps < 200  # it ends beyond the field
    game.restore(start)
    shown = [game.step(action) for action in drive[:steps]]
    assert [ended for _, _, ended in shown] == [False] * (steps - 1) + [True]
    np.testing.assert_array_equal(last, [frame for frame, _, _ in shown[-3:]])
    with pytest.raises(RuntimeError, match="no episode to step"):
        game.last_frames(drive, 3)
    game.restore(start)
    assert game.last_frames([], 3).shape == (0, 96, 96, 3)


@pytest.mark.parametrize("seed", [1, 9])
def test_the_leaver_drives_over_the_edge_of_the_field_where_the_round_ends(game, seed):
    from gymnasium.envs.box2d.car_racing import PLAYFIELD

    rng = np.random.default_rng(seed)
    leave, frame, ended, steps = game.policies()["leaver"](rng), game.reset(seed), False, 0
    black = [(frame[:80] == 0).all(axis=-1).mean()]
    while not ended and steps < game.max_episode_steps:
        frame, _, ended = game.step(leave(game))
        black.append((frame[:80] == 0).all(axis=-1).mean())
        steps += 1
    assert ended and steps < game.max_episode_steps
    assert black[0] == 0 and black[-1] > 0.3  # what is beyond the field is black
    assert np.abs(game.car()[0]).max() > PLAYFIELD
