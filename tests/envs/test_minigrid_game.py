"""The worked example of an adapter, against MiniGrid itself."""

import numpy as np
import pytest

pytest.importorskip("minigrid")

from worldsim.player.controls import COMMANDS, REWIND
from worldsim_envs.games import game_actions, make_game  # noqa: E402
from worldsim_envs.games.minigrid import TILE  # noqa: E402

SPEC = game_actions("minigrid")


@pytest.fixture
def game():
    with make_game("minigrid") as game:
        yield game


def play(game, policy, seed, steps=200):
    """Frames and rewards of an episode."""
    choose = game.policies()[policy](np.random.default_rng(seed))
    frames, rewards, ended = [game.reset(seed)], [], False
    while not ended and len(rewards) < steps:
        frame, reward, ended = game.step(choose(game))
        frames.append(frame)
        rewards.append(reward)
    return np.stack(frames), np.array(rewards), ended


def test_names_of_actions_are_those_of_the_game(game):
    native = game.env.unwrapped.actions
    assert SPEC.names == tuple(action.name for action in sorted(native))
    assert [SPEC.decode(SPEC.encode(int(action))) for action in native] == sorted(map(int, native))


@pytest.mark.parametrize(
    ("key", "name"),
    [("up", "forward"), ("a", "left"), ("right", "right"), ("space", "pickup"), ("s", "drop"), ("e", "toggle")],
)
def test_keys_mean_what_they_should(key, name):
    assert SPEC.names[SPEC.decode(SPEC.from_keys({key}))] == name


def test_its_keys_are_keys_of_the_window_that_command_nothing_else():
    window = pytest.importorskip("worldsim.window")
    codes = {window.key_code(name) for names in SPEC.keys.values() for name in names}
    assert len(codes) == sum(map(len, SPEC.keys.values()))
    assert codes.isdisjoint(map(window.key_code, (*COMMANDS, REWIND)))


def test_no_key_means_done_which_leaves_the_game_as_it_is(game):
    before = game.reset(0)
    assert np.array_equal(game.step(SPEC.decode(SPEC.from_keys(())))[0], before)


def test_the_player_is_found_in_every_frame_of_an_episode(game):
    for seed in range(3):
        choose = game.policies()["seeker"](np.random.default_rng(seed))
        frame, ended = game.reset(seed), False
        while not ended:
            x, y = game.env.unwrapped.agent_pos
            assert game.player_xy(frame) == (x * TILE + 3.5, y * TILE + 3.5)
            frame, _, ended = game.step(choose(game))
    assert game.player_xy(np.zeros_like(frame)) is None


def test_random_play_walks_about(game):
    frames, _, _ = play(game, "random", 0)
    assert np.mean([not np.array_equal(one, other) for one, other in zip(frames, frames[1:], strict=False)]) > 0.4
    assert len({game.player_xy(frame) for frame in frames}) > 4


def test_the_seeker_shows_every_event_of_the_game(game):
    episodes = [play(game, "seeker", seed) for seed in range(12)]
    reached = [ended for *_, ended in episodes]
    assert sum(reached) >= 9
    for frames, rewards, ended in episodes:
        assert set(rewards[:-1]) <= {0.0} and rewards[-1] == float(ended)
        keys = [((frame == (255, 255, 0)).all(axis=-1)).any() for frame in frames]
        assert keys[0] and (not ended or not all(keys))


def test_a_key_that_was_dropped_in_the_way_stops_no_episode_for_good(game):
    """The seeker answers in every state that random play reaches."""
    seeker = game.policies()["seeker"](np.random.default_rng(0))
    seeker.whim = 0.0
    choose = game.policies()["random"](np.random.default_rng(1))
    game.reset(1)
    for _ in range(150):
        assert seeker(game) in range(7)
        game.step(choose(game))


def test_its_state_is_where_a_frame_shows_player_and_key_until_it_is_carried(game):
    choose = game.policies()["seeker"](np.random.default_rng(3))
    frame, keys, ended = game.reset(3), [], False
    while not ended:
        player, key = game.visible_state().reshape(2, 2)
        assert tuple(player) == game.player_xy(frame)
        yellow = (frame[..., :2] > 128).all(axis=-1) & (frame[..., 2] < 64)
        if not np.isnan(key).any():
            x, y = (int(middle) for middle in key)
            assert yellow[y - 3 : y + 5, x - 3 : x + 5].any()
        keys.append(not np.isnan(key).any())
        frame, _, ended = game.step(choose(game))
    assert keys[0] and not keys[-1]
