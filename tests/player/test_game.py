"""The game's side of the player, turned by hand: time, saves, steps, recordings."""

import gymnasium as gym
import numpy as np
import pytest
from player_kit import Hand, files, press, release, same, tap
from tiny import NAMES, save_tiny_world

pygame = pytest.importorskip("pygame")

from PIL import Image  # noqa: E402

from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim.player import hud, saves, session  # noqa: E402
from worldsim.player.controls import RandomHands  # noqa: E402
from worldsim.player.episodes import EpisodeWriter  # noqa: E402
from worldsim.replay import Replay  # noqa: E402
from worldsim_envs.env import WorldEnv  # noqa: E402

WORLD = "worldsim/World-v0"


def repainted_whole(hand):
    hand.turn("p")
    while hand.game.mode == "repaint":
        hand.turn()


def test_held_keys_become_the_frames_that_the_env_paints(hand, world):
    frames = [hand.game.picture]
    press("up", "space")
    frames += hand.turns(3)
    alone = gym.make(WORLD, world=world)
    observations, score = [alone.reset(seed=7)[0]], 0.0
    for _ in range(3):
        observation, reward, *_ = alone.step(NAMES.index("UPFIRE"))
        observations.append(observation)
        score += reward
    assert same(frames, observations)
    assert (hand.game.status().step, hand.game.status().score) == (3, score)


def test_pause_holds_the_world_and_a_point_paints_one_frame(hand):
    hand.turn()
    before = hand.turn("tab")
    assert same(hand.turns(3), [before] * 3) and hand.game.status().step == 1
    hand.turn(".")
    hand.turn()
    assert hand.game.status().step == 2
    hand.turn("tab")
    assert hand.game.status().step == 3


def test_the_game_rests_while_the_help_is_open_and_goes_on_as_before(hand):
    hand.turn()
    hand.turn("h")
    hand.turns(3)
    assert (hand.game.mode, hand.game.status().step) == ("help", 1)
    hand.turn("h")
    assert (hand.game.mode, hand.game.status().step) == ("play", 2)
    hand.turn("tab")
    hand.turn("h", "h")
    hand.turn("h")
    assert hand.game.mode == "help"
    hand.turn("h")
    assert (hand.game.mode, hand.game.status().step) == ("pause", 2)


def test_a_point_while_playing_changes_nothing(hand):
    hand.turn(".")
    assert (hand.game.mode, hand.game.status().step) == ("play", 1)


def test_n_starts_the_next_seeds_round(hand, world):
    hand.turn()
    frame = hand.turn("n", "tab")
    observation, _ = gym.make(WORLD, world=world).reset(seed=8)
    assert np.array_equal(frame, observation)
    told = hand.game.status()
    assert (told.seed, told.step, told.score, told.mode) == (8, 0, 0.0, "pause")


def test_digits_choose_the_denoising_steps(hand, env):
    for digit in "142":
        hand.turn(digit)
        assert env.steps == hand.game.status().steps == hand.game.session.timeline.steps[-1] == int(digit)


def test_slow_motion_halves_the_speed_twice_and_comes_back(hand):
    speeds = [hand.game.pacer.fps]
    for _ in range(3):
        hand.turn("-")
        speeds.append(hand.game.pacer.fps)
    assert speeds == [1000, 500, 250, 1000]


def test_a_round_that_is_over_waits_for_n(window, world, make_game):
    hand = Hand(make_game(WorldEnv(world, max_episode_steps=2)), window)
    hand.turns(4)
    assert (hand.game.mode, hand.game.status().step) == ("over", 2)
    hand.turn("tab")
    assert hand.game.mode == "over"
    hand.turn("n")
    assert (hand.game.mode, hand.game.status().step) == ("play", 1)


def test_holding_backspace_takes_frames_back_and_play_goes_on_from_there(hand, world):
    press("up")
    frames = [hand.game.picture, *hand.turns(21)]
    release("up")
    press("backspace")
    back = hand.turns(10)
    assert same(back, frames[20:10:-1]) and hand.game.mode == "rewind"
    release("backspace")
    press("down")
    onward = hand.turns(5)
    assert hand.game.mode == "play" and hand.game.status().step == 16
    alone = gym.make(WORLD, world=world)
    alone.reset(seed=7)
    observations = [alone.step(NAMES.index(name))[0] for name in ["UP"] * 11 + ["DOWN"] * 5]
    assert same(onward, observations[-5:])


def test_rewinding_stops_at_the_earliest_kept_frame(hand, monkeypatch):
    monkeypatch.setattr(session, "REWIND_FRAMES", 16)
    hand.turns(50)
    press("backspace")
    hand.turns(40)
    assert 50 - 16 - session.KEEP_EVERY <= hand.game.status().step <= 50 - 16
    assert hand.game.status().step == hand.game.session.earliest()
    release("backspace")
    hand.turn()
    assert hand.game.mode == "play"


def test_a_round_that_is_over_can_be_taken_back(window, world, make_game):
    hand = Hand(make_game(WorldEnv(world, max_episode_steps=12)), window)
    hand.turns(14)
    assert hand.game.mode == "over"
    press("backspace")
    hand.turns(3)
    release("backspace")
    hand.turn()
    assert (hand.game.mode, hand.game.status().step) == ("play", 10)


def test_a_slot_brings_back_the_moment_bit_for_bit_in_another_window(hand, window, world, make_game):
    press("up")
    hand.turns(5)
    hand.turn("f5")  # saved before this turn's frame
    future = [hand.shown[-1][0], *hand.turns(3)]
    assert "saved in slot 1" in hand.note
    release("up")
    hand.turns(4)
    other = Hand(make_game(gym.make(WORLD, world=world).unwrapped, seed=99), window)
    press("up")
    again = [other.turn("f9"), *other.turns(3)]
    assert same(again, future)
    assert (other.game.status().seed, other.game.status().step) == (7, 9)
    assert other.game.session.timeline.rewards == hand.game.session.timeline.rewards[:9]


def test_slots_are_apart_and_an_empty_one_is_one_line(hand):
    hand.turn("tab")
    assert hand.turn("f9") is not None and "slot 1 is empty" in hand.note
    hand.turn("f5")
    hand.turn("f6")
    hand.turn("f9")
    assert hand.game.status().slot == 2 and "slot 2 is empty" in hand.note
    for _ in range(saves.SLOTS - 1):
        hand.turn("f6")
    hand.turn("f9")
    assert hand.note == "loaded slot 1"


@pytest.mark.parametrize("damage", [lambda data: b"no such thing", lambda data: data[: len(data) // 2]])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_damaged_slot_is_one_line_and_the_round_goes_on(hand, suffix, damage):
    hand.turns(3)
    hand.turn("f5")
    (file,) = hand.game._slots.folder.glob(f"slot1{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    hand.turn("f9")
    assert file.name in hand.note and "\n" not in hand.note
    assert hand.game.status().step == 5


def test_the_data_folder_is_the_systems_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert saves.data_folder({}, "linux") == tmp_path / ".local" / "share" / "worldsim"
    assert saves.data_folder({"XDG_DATA_HOME": "/data"}, "linux").as_posix() == "/data/worldsim"
    assert saves.data_folder({}, "darwin") == tmp_path / "Library" / "Application Support" / "worldsim"
    assert saves.data_folder({"LOCALAPPDATA": "/local"}, "win32").as_posix() == "/local/worldsim"


def test_m_swaps_the_player_for_a_random_one_and_back(hand):
    press("up")
    hand.turns(2)
    hand.turn("m")
    assert hand.note == "a random player plays"
    hand.turns(39)
    told = hand.game.session.timeline
    assert hand.game.status().hands == "random" and len(set(told.actions[2:])) > 4
    hand.turn("m")
    assert hand.game.status().hands == "you" and hand.note == "you play"
    assert told.actions[:2] == [NAMES.index("UP")] * 2 and told.actions[-1] == NAMES.index("UP")
    assert len(told) == 43


def test_p_repaints_the_last_seconds_in_the_most_steps_and_leaves_the_round_alone(hand, world):
    press("left")
    hand.turn("1")
    hand.turns(19)
    frames = list(hand.game.session.timeline.frames())
    shown = len(hand.shown)
    repainted_whole(hand)
    repainted = [frame for frame, told in hand.shown[shown:] if told.mode == "repaint"]
    alone = gym.make(WORLD, world=world, steps=4)
    alone.reset(seed=7)
    assert same(repainted, [alone.step(NAMES.index("LEFT"))[0] for _ in range(20)])
    assert same(list(hand.game.session.timeline.frames()), frames) and hand.game.status().steps == 1
    (strip,) = files(hand, "tiny-strip-*.png")
    with Image.open(strip) as image:
        assert image.size[0] > 8 * 3 * 64 and image.size[1] > 2 * 3 * 48
        first = np.asarray(image.convert("RGB"))[80:224, 8:200]
    assert np.array_equal(first, frames[1].repeat(3, 0).repeat(3, 1))


def test_p_without_a_past_is_one_line(hand):
    hand.turn("tab")
    hand.turn("p")
    assert "nothing to repaint" in hand.note


@pytest.mark.parametrize("key", ["p", "escape", "f5", "backspace"])
def test_a_repaint_can_be_left_at_once_and_leaves_nothing_behind(hand, world, key):
    press("left")
    hand.turns(20)
    hand.turn("p")
    hand.turn()
    assert [told.mode for _, told in hand.shown[-2:]] == ["repaint"] * 2
    assert hud.state_words(hand.shown[-1][1])[1] == " - Esc or P leaves it"
    hand.turn(key)
    assert hand.game.mode != "repaint" and not hand.desk.stopped.is_set()
    hand.turns(3)
    assert files(hand, "tiny-strip-*.png") == []
    timeline, alone = hand.game.session.timeline, gym.make(WORLD, world=world)
    frames = [alone.reset(seed=7)[0]] + [alone.step(NAMES.index("LEFT"))[0] for _ in range(len(timeline))]
    assert same(list(timeline.frames()), frames)


def test_a_repaint_of_a_paused_game_leaves_it_paused(hand):
    hand.turns(9)
    for ways in (("p",), ("p", "p")):
        before = hand.turn("tab")
        for key in ways:
            hand.turn(key)
        while hand.game.mode == "repaint":
            hand.turn()
        assert hand.game.mode == "pause" and np.array_equal(hand.turn(), before)
        hand.turn("tab")


def test_a_strip_that_cannot_be_written_is_one_line_and_the_game_goes_on(hand, tmp_path):
    hand.turns(9)
    (tmp_path / "clips").write_text("in the way")
    repainted_whole(hand)
    assert "clips" in hand.note and hand.game.mode == "play"


def test_a_recording_is_a_clip_and_a_replay_of_the_round_as_it_was_lived(hand, world, monkeypatch):
    monkeypatch.setattr("worldsim.player.game.usual_suffix", lambda: ".gif")
    press("up")
    hand.turns(3)
    hand.turn("r")
    assert hand.game.status().recording
    hand.turns(6)
    press("backspace")
    hand.turns(4)
    release("backspace", "up")
    hand.turn("4")
    hand.turns(2)
    hand.turn("n")
    hand.turns(2)
    hand.turn("r")
    assert not hand.game.status().recording and "its replay" in hand.note
    (clip,), (file,) = files(hand, "*.gif"), files(hand, "*.replay.json")
    with Image.open(clip) as image:
        assert image.n_frames == (9 - 3 + 1) + (3 + 1)
    replay = Replay.load(file)
    assert [each.seed for each in replay.rounds] == [7, 8]
    assert replay.rounds[0].steps == [2] * 6 + [4] * 3
    assert replay.check(gym.make(WORLD, world=world, steps=2)) == []


def test_a_recording_follows_a_loaded_game(hand, world, monkeypatch):
    monkeypatch.setattr("worldsim.player.game.usual_suffix", lambda: ".gif")
    hand.turns(5)
    hand.turn("f5")
    hand.turn("n")
    hand.turn("r")
    press("space")
    hand.turns(2)
    hand.turn("f9")
    hand.turns(2)
    hand.turn("r")
    replay = Replay.load(*files(hand, "*.replay.json"))
    assert [(each.seed, len(each.actions)) for each in replay.rounds] == [(8, 4), (7, 8)]
    assert replay.check(gym.make(WORLD, world=world)) == []


def test_recording_from_the_start_is_written_when_the_player_leaves(env, window, make_game, tmp_path):
    pytest.importorskip("av")
    hand = Hand(make_game(env, record=tmp_path / "new" / "round.mp4"), window)
    hand.turns(4)
    hand.game.close()
    assert (tmp_path / "new" / "round.mp4").stat().st_size > 1000
    assert Replay.load(tmp_path / "new" / "round.replay.json").frames() == 4


def test_the_episode_is_kept_even_where_the_clip_cannot_be_written(env, window, make_game, tmp_path):
    kept = EpisodeWriter(tmp_path / "data", env.facts(), "imagined")
    hand = Hand(make_game(env, record=tmp_path / "file" / "round.gif", episodes=kept), window)
    hand.turns(4)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        hand.game.close()
    assert len(list((tmp_path / "data").rglob("*.npz"))) == 1


def test_a_state_of_other_weights_is_refused(hand, window, tmp_path_factory, make_game):
    hand.turns(2)
    state, timeline = hand.game.session.snapshot()
    other = gym.make(WORLD, world=str(save_tiny_world(tmp_path_factory.mktemp("other"), seed=1))).unwrapped
    strange = make_game(other).session
    with pytest.raises(ValueError, match="this state is of checkpoint"):
        strange.restore(state, timeline)
    assert len(strange.timeline) == 0


def test_figures_of_the_model_are_measured_while_playing(hand):
    hand.turns(5)
    told = hand.game.status()
    assert told.model_fps > 0 and 0 < told.game_fps <= told.full_fps == 1000
    tap("up")
    hand.turn()
    p50, p95 = hand.meter.measured().latency_ms
    assert 0 < p50 <= p95


def test_random_hands_press_what_a_player_could_and_nothing_else():
    keys = {"steer+": ("right",), "steer-": ("left",), "gas": ("up",), "horn": ("h",)}
    spec = ActionSpec([Channel("steer", "axis"), Channel("gas"), Channel("mood"), Channel("horn")], keys=keys)
    hands = RandomHands(spec, np.random.default_rng(0))
    drawn = np.stack([hands.act() for _ in range(300)])
    assert set(drawn[:, 1]) == set(drawn[:, 3]) == {0.0, 1.0} and not drawn[:, 2].any()
    assert set(drawn[:, 1] + drawn[:, 3]) == {0.0, 1.0}  # one button at a time
    assert drawn[:, 0].min() < -0.5 and drawn[:, 0].max() > 0.5
    held = np.diff(np.flatnonzero(np.abs(np.diff(drawn[:, 0])) > 0))
    assert 1 <= held.min() and held.max() <= 8 and len(set(held)) > 4


def test_a_loaded_game_drops_no_round_and_no_frame_is_kept_twice(env, window, make_game, tmp_path):
    hand = Hand(make_game(env, episodes=EpisodeWriter(tmp_path / "data", env.facts(), "imagined")), window)
    hand.turns(5)
    hand.turn("f5")
    first = list(hand.game.session.timeline.frames())
    hand.turn("n")
    hand.turns(6)
    second = list(hand.game.session.timeline.frames())
    hand.turn("f9")
    hand.turns(3)
    hand.game.close()
    third = list(hand.game.session.timeline.frames())
    kept = [np.load(path)["frames"] for path in sorted((tmp_path / "data").rglob("*.npz"))]
    wanted = [first, second, third[5:]]  # the slot holds the fifth frame
    assert len(third) > len(first) and sorted(map(len, kept)) == sorted(map(len, wanted))
    assert all(any(same(frames, each) for each in kept) for frames in wanted)


def test_a_slot_that_cannot_be_loaded_keeps_no_frame_twice(env, window, make_game, tmp_path):
    hand = Hand(make_game(env, episodes=EpisodeWriter(tmp_path / "data", env.facts(), "imagined")), window)
    hand.turns(3)
    hand.turn("f5")
    (file,) = hand.game._slots.folder.glob("slot1.safetensors")
    file.write_bytes(b"no such thing")
    hand.turns(2)
    hand.turn("f9")
    assert file.name in hand.note
    hand.turns(4)
    hand.game.close()
    lived = list(hand.game.session.timeline.frames())
    kept = sorted((np.load(path)["frames"] for path in (tmp_path / "data").rglob("*.npz")), key=len)
    assert sum(len(frames) - 1 for frames in kept) == len(lived) - 1
    assert same([*kept[1], *kept[0][1:]], lived) or same([*kept[0], *kept[1][1:]], lived)


def test_a_clip_leaves_a_future_where_the_player_did(hand, world, monkeypatch):
    monkeypatch.setattr("worldsim.player.game.usual_suffix", lambda: ".gif")
    hand.turn("r")
    press("up")
    hand.turns(5)
    hand.turn("k")
    hand.turn("x")
    hand.turns(7)
    hand.turn("x")
    hand.turns(2)
    hand.turn("r")
    (clip,), (file,) = files(hand, "*.gif"), files(hand, "*.replay.json")
    takes = hand.game._recorder._takes
    assert [(take.first, take.last) for take in takes] == [(0, 7), (7, 15), (15, None)]
    with Image.open(clip) as image:
        assert image.n_frames == 8 + 9 + 4
    assert len(Replay.load(file).rounds) == 2 and Replay.load(file).check(gym.make(WORLD, world=world)) == []


def test_a_clip_shows_no_frame_that_a_future_was_rewound_beyond_after_it_was_taken_again(hand, world, monkeypatch):
    monkeypatch.setattr("worldsim.player.game.usual_suffix", lambda: ".gif")
    hand.turn("r")
    hand.turns(8)
    hand.turn("k")
    hand.turns(2)
    hand.turn("x")
    hand.turns(2)
    hand.turn("x")
    hand.turns(2)
    press("backspace")
    hand.turns(9)
    release("backspace")
    hand.turns(9)
    hand.turn("r")
    mine, other = hand.game.session.timeline, hand.game._fork.other.timeline
    first, second, third = hand.game._recorder._takes
    assert first.timeline is third.timeline is mine and second.timeline is other
    assert first.last == third.first < second.first
    lived = [mine.frame(index) for index in range(len(mine) + 1)]
    assert same([*first.frames(), *list(third.frames())[1:]], lived)


def test_frames_taken_back_are_not_kept_where_the_player_leaves_with_backspace_held(window, env, make_game, tmp_path):
    hand = Hand(make_game(env, episodes=EpisodeWriter(tmp_path, env.facts(), "imagined")), window)
    frames = [hand.game.picture, *hand.turns(9)]
    press("backspace")
    hand.turns(4)
    hand.game.close()
    (file,) = tmp_path.rglob("*.npz")
    assert same(np.load(file)["frames"], frames[:6])
