from pathlib import Path

import numpy as np
import pytest

from worldsim_envs.games import make_game
from worldsim_envs.games.check import check_game
from worldsim_envs.games.deadly_corridor import DEATH, REWARD_GRID, VEST, DeadlyCorridor
from worldsim_envs.games.doom import FOCAL_PIXELS, TakeCover, fireballs
from worldsim_envs.games.doom_policies import Marksman

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


def test_a_game_that_starts_leaves_nothing_in_the_working_folder_and_stays_in_it(tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "_vizdoom").touch()  # no folder can be made of that name, as while another game makes it
    with make_game("take_cover") as game:
        game.reset(0)
    assert [*tmp_path.iterdir()] == [tmp_path / "_vizdoom"] and Path.cwd() == tmp_path


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


@pytest.fixture(scope="module")
def corridor():
    pytest.importorskip("vizdoom")
    with make_game("deadly_corridor") as game:
        yield game


@pytest.fixture(scope="module")
def walks(corridor):
    """Of each policy six episodes, to their ends: frames, rewards, states, and the scenario's own score."""

    def walk(policy, seed):
        choose = corridor.policies()[policy](np.random.default_rng(seed))
        frames, rewards, states, ended = [corridor.reset(seed)], [], [corridor.visible_state()], False
        before = corridor._doom.get_total_reward()
        while not ended:
            frame, reward, ended = corridor.step(choose(corridor))
            frames.append(frame)
            rewards.append(reward)
            states.append(corridor.visible_state())
        return np.stack(frames), rewards, np.stack(states), corridor._doom.get_total_reward() - before

    return {policy: [walk(policy, seed) for seed in range(6)] for policy in ("marksman", "random")}


def test_deadly_corridor_keeps_the_contract_of_a_game():
    pytest.importorskip("vizdoom")
    check_game(DeadlyCorridor, steps=30)


def test_the_corridor_ends_with_the_frame_before_and_never_in_the_dark(walks):
    for frames, _, states, _ in sum(walks.values(), []):
        np.testing.assert_array_equal(frames[-1], frames[-2])
        assert frames.mean(axis=(1, 2, 3)).min() > 20
        assert np.isnan(states[-1]).all() and not np.isnan(states[:-1]).any()


def test_the_corridor_pays_in_whole_lines_and_in_all_what_the_scenario_pays(walks):
    values = set()
    for _, rewards, _, score in sum(walks.values(), []):
        big = [reward for reward in rewards if reward in (DEATH, VEST)]
        assert len(big) == 1 and rewards.index(big[0]) >= len(rewards) - 2
        assert not any(reward % REWARD_GRID for reward in rewards if reward not in (DEATH, VEST))
        assert abs(sum(rewards) - score) < 40 + REWARD_GRID  # the way of one step, and one line
        values |= set(rewards)
    assert {DEATH, VEST} < values and len(values) < 50


def test_the_sum_of_the_corridors_rewards_is_exact_to_a_line_at_every_step(corridor):
    corridor.reset(3)
    before, total, ended = corridor._doom.get_total_reward(), 0.0, False
    forward, backward = (corridor.actions.names.index(name) for name in ("FORWARD", "BACKWARD"))
    for action in [forward] * 6 + [0] * 4 + [backward] * 3 + [0] * 3:
        _, reward, ended = corridor.step(action)
        if not ended:
            total += reward
            assert abs(total - (corridor._doom.get_total_reward() - before)) <= REWARD_GRID
    assert total > 30


def test_a_corridor_goes_on_from_a_save_to_the_byte_and_to_the_line(corridor):
    choose = corridor.policies()["marksman"](np.random.default_rng(1))
    corridor.reset(1)
    for _ in range(25):
        corridor.step(choose(corridor))
    start = corridor.save()
    actions = [choose(corridor)]
    first = [corridor.step(actions[0])]
    while not first[-1][2]:
        actions.append(choose(corridor))
        first.append(corridor.step(actions[-1]))
    corridor.reset(2)
    np.testing.assert_array_equal(corridor.restore(start), start.frame)
    for action, (frame, reward, ended) in zip(actions, first, strict=True):
        again = corridor.step(action)
        np.testing.assert_array_equal(again[0], frame)
        assert again[1:] == (reward, ended)


def test_the_marksman_goes_far_where_a_random_player_dies(walks):
    score = {policy: np.mean([sum(rewards) for _, rewards, _, _ in each]) for policy, each in walks.items()}
    assert score["marksman"] > 1000 and score["marksman"] > 5 * score["random"]


def test_the_marksman_remembers_a_turn_only_where_it_was_played(corridor):
    marksman, ended = Marksman(np.random.default_rng(0)), False
    marksman.whim, names, turns = 0.5, corridor.actions.names, set()
    corridor.reset(0)
    while not ended:
        action = marksman(corridor)
        assert marksman.turning == ("TURN" in names[action])
        turns.add(marksman.turning)
        _, _, ended = corridor.step(action)
    assert turns == {False, True}


def test_the_corridors_skill_is_three_and_its_opening_is_short(corridor):
    assert corridor._doom.get_doom_skill() == 3
    openings = []
    for seed in range(12):
        corridor.reset(seed)
        openings.append(len(corridor.save().actions))
    assert set(openings) == {0, 1, 2, 3}


def test_the_corridors_buttons_do_what_their_names_say(corridor):
    corridor.reset(0)
    for _ in range(3):
        corridor.step(0)
    start, moved = corridor.save(), {}
    for name in ("NOOP", "FORWARD", "BACKWARD", "LEFT", "RIGHT", "TURN_LEFT", "TURN_RIGHT", "FORWARD_TURN_LEFT"):
        corridor.restore(start)
        before = corridor.player()
        for _ in range(3):
            corridor.step(corridor.actions.names.index(name))
        moved[name] = corridor.player() - before
    x, y, angle = np.transpose([*moved.values()] - moved["NOOP"])
    assert x[1] > 10 and x[2] < -10 and x[7] > 10
    assert y[3] > 5 and y[4] < -5 and abs(y[[0, 1, 2, 5, 6]]).max() < 1
    assert angle[5] > 10 and angle[6] < -10 and angle[7] > 10 and not angle[:5].any()


def test_the_corridors_gunmen_are_seen_in_their_niches_and_no_farther(corridor):
    corridor.reset(5)
    turns, distances = np.transpose(corridor.gunmen())
    assert len(turns) == corridor.visible_state()[3] == 2
    assert (turns[0] > 0) != (turns[1] > 0) and abs(turns).max() < 45 and distances.max() < 250
