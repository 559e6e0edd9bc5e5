import sys
from itertools import product

import numpy as np
import pytest

from worldsim_envs.games import Game, game_actions, game_class, game_names, make_game
from worldsim_envs.games.atari import OPENING_ACTION_STEPS, OPENING_NOOP_FRAMES, SKIP
from worldsim_envs.games.boxing import SCALE_X, SCALE_Y, next_luck

SPEC = game_actions("boxing")
GRASS = np.full((64, 64, 3), (110, 156, 66), np.uint8)


@pytest.fixture
def game():
    pytest.importorskip("ale_py")
    with make_game("boxing") as game:
        yield game


def play(game: Game, policy: str, seed: int, steps: int):
    """Frames, rewards and states of the ring under a policy, from the first frame of an episode."""
    choose = game.policies()[policy](np.random.default_rng(seed))
    frames, rewards, rings, ended = [game.reset(seed)], [], [game.ring()], False
    while not ended and len(rewards) < steps:
        frame, reward, ended = game.step(choose(game))
        frames.append(frame)
        rewards.append(reward)
        rings.append(game.ring())
    return np.stack(frames), np.array(rewards), rings, ended


def play_to(game: Game, policy: str, seed: int, steps: int):
    """The state after some steps under a policy, which the game is then in."""
    play(game, policy, seed, steps)
    return game.save()


def frames_under(game: Game, actions):
    return np.stack([game.step(action)[0] for action in actions])


def rings_under(game: Game, state, actions, rng=None):
    """States of the ring after each action from a saved state on, with luck drawn from rng where it is given."""
    game.restore(state)
    if rng is not None:
        game.reroll(rng)
    rings = []
    for action in actions:
        game.step(action)
        rings.append(game.ring())
    return rings


def test_the_18_actions_are_all_combinations_of_a_direction_and_the_button():
    legal = {
        combo for combo in product((0, 1), repeat=5) if not (combo[0] and combo[1]) and not (combo[2] and combo[3])
    }
    assert {tuple(int(value) for value in row) for row in SPEC.table} == legal
    assert [SPEC.decode(SPEC.encode(action)) for action in range(18)] == list(range(18))


def test_keys_combine_freely():
    assert SPEC.names[SPEC.decode(SPEC.from_keys({"up", "right", "space"}))] == "UPRIGHTFIRE"
    assert SPEC.names[SPEC.decode(SPEC.from_keys({"s", "a"}))] == "DOWNLEFT"
    assert SPEC.names[SPEC.decode(SPEC.from_keys({"up", "down", "space"}))] == "FIRE"
    assert SPEC.names[SPEC.decode(SPEC.from_keys(set()))] == "NOOP"


def test_an_unknown_game_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown game 'boxin'; did you mean 'boxing'"):
        game_class("boxin")
    assert "boxing" in game_names()


def test_without_its_package_the_game_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "worldsim\[atari\]"'):
        make_game("boxing")


def test_no_boxer_is_found_where_none_is():
    assert game_class("boxing").player_xy(GRASS) is None
    assert game_class("boxing").opponent_xy(GRASS) is None
    with pytest.raises(ValueError, match=r"positions are read from uint8 \(64, 64, 3\)"):
        game_class("boxing").player_xy(GRASS.transpose(2, 0, 1))


@pytest.mark.atari
def test_names_of_actions_are_those_of_the_emulator(game):
    import ale_py

    assert SPEC.names == tuple(action.name for action in game._legal)
    assert all(action == getattr(ale_py.Action, SPEC.names[i]) for i, action in enumerate(game._legal))


@pytest.mark.atari
def test_a_restored_state_replays_byte_for_byte(game):
    play(game, "fighter", 0, 60)
    state = game.save()
    actions = np.random.default_rng(0).integers(18, size=80)

    def replay():
        return [game.step(action) for action in actions]

    first = replay()
    shown = game.restore(state)
    second = replay()
    assert np.array_equal(shown, state.frame)
    assert all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(first, second, strict=True))
    assert len({frame.tobytes() for frame, *_ in first}) > 40


@pytest.mark.atari
def test_the_same_seed_gives_the_same_episode_in_a_used_game_and_in_a_fresh_one(game):
    first = play(game, "mixed", 5, 120)[0]
    used = play(game, "mixed", 5, 120)[0]
    with make_game("boxing") as fresh:
        assert np.array_equal(first, used)
        assert np.array_equal(first, play(fresh, "mixed", 5, 120)[0])


@pytest.mark.atari
def test_different_seeds_start_differently(game):
    assert len({game.reset(seed).tobytes() for seed in range(12)}) >= 10


@pytest.mark.atari
def test_a_frame_is_the_area_mean_of_the_maximum_of_the_last_two_screens(game):
    import gymnasium

    gymnasium.register_envs(pytest.importorskip("ale_py"))
    raw = gymnasium.make("ALE/Boxing-v5", frameskip=1, repeat_action_probability=0.0, full_action_space=True)
    raw.reset()
    play(game, "fighter", 0, 100)
    raw.unwrapped.ale.restoreState(game.save().emulator)
    for action in np.random.default_rng(1).integers(18, size=40):
        screens, rewards, *_ = zip(*(raw.step(action) for _ in range(4)), strict=True)
        frame, reward, _ = game.step(action)
        assert reward == sum(rewards)
        # With 4 copies of each row and 2 of each column, a pixel of the frame is 11 x 3 of them.
        visible = np.maximum(screens[2], screens[3])[4:180, 32:128].astype(float)
        fine = visible.repeat(4, axis=0).repeat(2, axis=1)
        mean = fine.reshape(64, 11, 64, 3, 3).mean(axis=(1, 3))
        assert np.abs(frame - mean).max() <= 0.5
    raw.close()


@pytest.mark.atari
def test_positions_read_from_the_frame_are_those_in_memory(game):
    errors = {"player": [], "opponent": []}
    for policy in ("mixed", "runner"):
        frames, _, rings, _ = play(game, policy, 1, 300)
        for frame, ring in zip(frames, rings, strict=True):
            errors["player"].append(np.subtract(game.player_xy(frame), ring.player))
            errors["opponent"].append(np.subtract(game.opponent_xy(frame), ring.opponent))
    for who in errors:
        error = np.abs(errors[who])
        assert error.mean() < 0.6, f"{who}: mean error {error.mean(axis=0)} pixels"
        assert np.quantile(error, 0.95) < 2.0 and error.max() < 4.0


@pytest.mark.atari
def test_positions_are_read_through_noise(game):
    frames = play(game, "mixed", 2, 60)[0]
    noise = np.random.default_rng(0).normal(0, 12, size=frames.shape)
    noisy = np.clip(frames + noise, 0, 255).astype(np.uint8)
    for find in (game.player_xy, game.opponent_xy):
        moved = [np.abs(np.subtract(find(a), find(b))) for a, b in zip(frames, noisy, strict=True)]
        assert np.mean(moved) < 0.3


def lucks_from(luck: int) -> list[int]:
    """One cycle of the shift register."""
    cycle = [luck]
    while (luck := next_luck(luck)) != cycle[0]:
        cycle.append(luck)
    return cycle


def test_the_lucks_are_one_cycle_of_32767():
    cycle = lucks_from(next_luck(1))
    assert len(cycle) == len(set(cycle)) == 32767


@pytest.mark.atari
def test_every_game_starts_with_the_same_luck_and_so_runs_in_step_with_the_clock(game):
    cycle, screens = lucks_from(0x0066), set()
    for seed in range(12):
        game.reset(seed)
        screens.add(cycle.index(game.luck()))
    assert len(screens) >= 10 and max(screens) < OPENING_NOOP_FRAMES + SKIP * (1 + OPENING_ACTION_STEPS)


@pytest.mark.atari
def test_luck_steps_once_a_screen_by_the_rule_whatever_is_played(game):
    for policy, seed in (("fighter", 0), ("random", 1)):
        choose = game.policies()[policy](np.random.default_rng(seed))
        game.reset(seed)
        expected = game.luck()
        for _ in range(300):
            game.step(choose(game))
            for _ in range(SKIP):
                expected = next_luck(expected)
            assert game.luck() == expected


@pytest.mark.atari
def test_every_luck_that_is_drawn_is_set_and_steps_by_the_rule(game):
    state, rng, drawn = play_to(game, "fighter", 3, 50), np.random.default_rng(0), set()
    for _ in range(200):
        game.restore(state)
        game.reroll(rng)
        drawn.add(luck := game.luck())
        game.step(0)
        assert game.luck() == next_luck(next_luck(next_luck(next_luck(luck))))
    assert len(drawn) > 190


@pytest.mark.atari
def test_a_reroll_changes_two_bytes_of_memory_and_nothing_shown(game):
    play_to(game, "fighter", 0, 100)
    memory, screen, shown = game._ale.getRAM(), game._ale.getScreenRGB(), game.save().frame
    game.reroll(np.random.default_rng(0))
    assert np.flatnonzero(game._ale.getRAM() != memory).tolist() == [93, 94]
    assert np.array_equal(game._ale.getScreenRGB(), screen) and np.array_equal(game.save().frame, shown)


@pytest.mark.atari
def test_other_luck_changes_what_the_opponent_does_and_the_player_only_by_that(game):
    rng, moved, compared = np.random.default_rng(0), 0, 0
    for seed in range(10):
        state, actions = play_to(game, "mixed", seed, 60), rng.integers(18, size=16)
        recorded = rings_under(game, state, actions)
        other = rings_under(game, state, actions, rng)
        doings = [[(ring.opponent, ring.opponent_score) for ring in rings] for rings in (recorded, other)]
        apart = [a != b for a, b in zip(*doings, strict=True)]  # it stands elsewhere, or a punch of its landed
        first = apart.index(True) if True in apart else len(apart)
        assert [ring.player for ring in recorded[:first]] == [ring.player for ring in other[:first]]
        moved, compared = moved + apart[-1], compared + first
    assert moved >= 8 and compared >= 20


@pytest.mark.atari
def test_own_luck_back_or_a_restored_state_goes_on_as_before(game):
    state, rng = play_to(game, "fighter", 0, 60), np.random.default_rng(0)
    luck, actions = game.luck(), rng.integers(18, size=60)
    recorded = frames_under(game, actions)
    game.restore(state)
    game.reroll(rng)
    rerolled, other = game.save(), frames_under(game, actions)
    assert not np.array_equal(recorded, other)
    game.restore(state)
    assert np.array_equal(recorded, frames_under(game, actions))
    game.restore(rerolled)
    assert np.array_equal(other, frames_under(game, actions))
    game.restore(rerolled)
    game.set_luck(luck)
    assert np.array_equal(recorded, frames_under(game, actions))


@pytest.mark.atari
def test_a_luck_that_no_game_has_is_refused(game):
    with pytest.raises(RuntimeError, match="there is no luck; call reset"):
        game.luck()
    game.reset(0)
    for luck in (0, 0x8000, next_luck(1) ^ 1, 1 << 16):
        with pytest.raises(ValueError, match=f"luck {luck} is none of Boxing's 32767: use one that luck\\(\\) gave"):
            game.set_luck(luck)


@pytest.mark.atari
def test_a_direction_moves_the_player_that_way(game):
    play(game, "random", 4, 40)
    state = game.save()
    for channel, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)):
        start = game.player_xy(game.restore(state))
        for _ in range(5):
            frame, *_ = game.step(SPEC.decode(SPEC.vector(**{channel: 1.0})))
        moved = np.subtract(game.player_xy(frame), start)
        assert sign * moved[axis] > 2.0 and abs(moved[1 - axis]) < 2.0


@pytest.mark.atari
def test_rewards_are_the_changes_of_the_score(game):
    _, rewards, rings, _ = play(game, "mixed", 0, 400)
    scores = np.array([ring.player_score - ring.opponent_score for ring in rings])
    assert np.count_nonzero(rewards) > 5
    assert np.array_equal(rewards, np.diff(scores))


@pytest.mark.atari
def test_the_fighter_wins_by_far_and_the_game_ends_by_itself(game):
    _, rewards, rings, ended = play(game, "fighter", 0, game.max_episode_steps)
    assert ended and len(rewards) < game.max_episode_steps
    assert rewards.sum() > 20
    with pytest.raises(RuntimeError, match="call reset"):
        game.step(0)


@pytest.mark.atari
def test_wrong_calls_are_named(game):
    with pytest.raises(RuntimeError, match="no episode to step"):
        game.step(0)
    with pytest.raises(RuntimeError, match="no episode to save"):
        game.save()
    game.reset(0)
    with pytest.raises(ValueError, match="action 18 is not one of Boxing's: use an integer 0..17"):
        game.step(18)


@pytest.mark.atari
def test_a_returned_frame_is_the_callers_own(game):
    frame = game.reset(0)
    kept = frame.copy()
    game.step(3)
    assert np.array_equal(frame, kept)
    frame[:] = 0
    assert game.save().frame.any()


def test_the_screen_pixels_are_drawn_close_to_a_televisions_shape():
    assert (SCALE_X, SCALE_Y) == (1.5, 2.75)
