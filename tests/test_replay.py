"""Replay files: a session comes again to the byte, and what cannot is said in one line."""

import argparse
import json
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine import needs_kernels
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_encounter, tiny_world

from worldsim import replay
from worldsim.models.dit import CausalDiT
from worldsim.replay import Replay, Round
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = Path(__file__).parent / "data" / "golden_replay.json"


class WholeNumbers(CausalDiT):
    """A game of whole numbers below 256: their arithmetic is exact, so its frames are the same on every machine.

    A pixel is five times itself, plus the action's buttons, plus one where the noise is positive.
    """

    def forward(self, x_t, sigma, action, cache):
        before = ((cache.previous.float() + 1) * 127.5).round()
        buttons = (action * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).sum(dim=1)
        after = (5 * before + buttons[:, None, None, None] + (x_t > 0)) % 256
        return after / 127.5 - 1

    def commit(self, x_0, action, cache):
        cache.advance(x_0)


@pytest.fixture
def numbers():
    model = tiny_world()
    model.denoiser.__class__ = WholeNumbers
    return WorldEnv(model, steps=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_world(tmp_path_factory.mktemp("world"))


def played(env, seed, actions, past=None):
    """A round as it was played."""
    frames = [env.reset(seed=seed, options=past)[0]]
    frames += [env.step(action)[0] for action in actions]
    return Round.of(seed, actions, frames, past)


def session(env, world="numbers"):
    """Two rounds, the second after a past of the caller's own."""
    past = {"frames": np.full((2, HEIGHT, WIDTH, 3), 7, np.uint8), "actions": np.array([3])}
    past["frames"][1, :4, 8:] = 200
    rounds = [played(env, 5, [3, 14, 0, 7, 7, 17]), played(env, 6, [1, 2, 3], past)]
    return Replay.of(env, rounds, world)


def command(*words):
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    return replay.run(parser.parse_args([str(word) for word in words]))


def test_the_golden_replay_comes_out_on_this_machine_too(numbers):
    golden = Replay.load(GOLDEN)
    assert golden.frames() == 9 and golden.check(numbers) == []


def test_the_golden_replay_notices_one_wrong_pixel(numbers):
    golden = Replay.load(GOLDEN)
    step = numbers.step

    def smudged(action):
        observation, *rest = step(action)
        observation[0, 0, 0] ^= 1
        return observation, *rest

    numbers.step = smudged
    assert golden.check(numbers) == [0, 1]


def test_a_session_of_a_network_comes_again_from_its_file(folder, tmp_path, capsys):
    env = WorldEnv(str(folder))
    session(env, str(folder)).save(tmp_path / "session.json")
    assert command(tmp_path / "session.json") == 0
    said = capsys.readouterr()
    assert "2 rounds, 9 frames, 2 denoising steps" in said.out
    assert said.err == "replay: nothing was painted; --show does so in a window, --check compares every frame\n"
    assert command(tmp_path / "session.json", "--check") == 0
    assert "to the byte" in capsys.readouterr().out


@pytest.fixture
def watched(folder, tmp_path, monkeypatch):
    """Watches a session in a window until so many frames were shown, then leaves it; returns what was shown."""
    pygame = pytest.importorskip("pygame")
    from worldsim.window import Viewer

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env, file, usual = WorldEnv(str(folder)), tmp_path / "session.json", Viewer.show
    recorded = session(env, str(folder))
    recorded.save(file)

    def watch(count, *options, closing=False):
        shown, escape = [], pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE)

        def show(self, frame):
            usual(self, frame)
            shown.append(frame)
            if len(shown) == count:
                pygame.event.post(pygame.event.Event(pygame.QUIT) if closing else escape)

        monkeypatch.setattr(Viewer, "show", show)
        assert command(file, "--show", *options) == 0 and not pygame.display.get_init()
        return shown

    watch.frames = [frame for each in recorded.rounds for frame in each.observations(env)]
    return watch


def test_a_session_is_shown_in_a_window_whose_last_frame_stays(watched):
    shown = watched(14, closing=True)
    assert len(shown) == 14 and np.array_equal(shown[:11], watched.frames)
    assert all(np.array_equal(frame, watched.frames[-1]) for frame in shown[11:])


def test_a_session_that_is_shown_can_be_left_at_any_frame_and_still_be_checked(watched, capsys):
    assert np.array_equal(watched(3, "--check"), watched.frames[:3])
    assert "the same frames, to the byte" in capsys.readouterr().out


def test_without_a_display_a_session_is_not_shown_and_one_line_says_what_to_do(folder, tmp_path, monkeypatch):
    pytest.importorskip("pygame")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    session(WorldEnv(str(folder)), str(folder)).save(tmp_path / "session.json")
    with pytest.raises(OSError, match="no display .*; `worldsim render FILE --track realtime` makes a film of it"):
        command(tmp_path / "session.json", "--show")


@pytest.mark.parametrize("part, value", [("seed", 8), ("actions", [3, 14, 0, 7, 7, 16]), ("sha256", "0" * 64)])
def test_another_session_is_found_out(folder, tmp_path, capsys, part, value):
    file = tmp_path / "session.json"
    session(WorldEnv(str(folder)), str(folder)).save(file)
    stored = json.loads(file.read_text())
    stored["rounds"][0][part] = value
    stored["machine"]["version_torch"] = "1.0"
    stored["machine"]["threads"] += 1  # this can be had here, so it is no reason
    file.write_text(json.dumps(stored))
    assert command(file, "--check") == 1
    error = capsys.readouterr().err
    assert "other frames in round 1; this machine is another: version_torch '1.0' ->" in error
    assert "threads" not in error


def test_the_past_survives_the_file(numbers, tmp_path):
    session(numbers).save(tmp_path / "session.json")
    loaded = Replay.load(tmp_path / "session.json")
    assert loaded == session(numbers)
    first = next(loaded.rounds[1].observations(numbers))
    assert (first[:4, 8:] == 200).all() and (first[4:] == 7).all()


def change(**parts):
    return lambda stored: json.dumps(stored | parts)


BAD_FILES = {
    "no JSON": (lambda stored: "hello", "no replay file"),
    "a list": (lambda stored: "[1, 2]", "no replay file"),
    "another schema": (change(schema=9), "schema 9; this worldsim reads 2"),
    "unknown field": (change(lives=3), "lives"),
    "no rounds": (lambda stored: json.dumps({key: stored[key] for key in stored if key != "rounds"}), "rounds"),
    "odd rounds": (change(rounds=[{"seed": -1, "actions": [], "sha256": ""}]), "a seed from 0"),
    "conditions of no world": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "conditions": {"npc": "shy"}}]),
        "unknown condition 'npc'",
    ),
    "conditions that are no names": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "conditions": [1]}]),
        "a value for each group",
    ),
    "changes of no action": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "changes": [[1, {"npc": "shy"}]]}]),
        "damaged: a round's changes are pairs",
    ),
    "changes that are no pairs": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "changes": {"0": {"npc": "shy"}}}]),
        "damaged: a round's changes are pairs",
    ),
    "changes of no world": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "changes": [[0, {"npc": "shy"}]]}]),
        "unknown condition 'npc'",
    ),
    "rounds of nothing": (change(rounds=[3]), "damaged"),
    "no machine": (change(machine=None), "damaged: it names no machine or no checkpoint"),
    "no checkpoint": (change(checkpoint=None), "damaged: it names no machine or no checkpoint"),
    "a past of nothing": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "past": {"actions": []}}]),
        "damaged: a round's past is a png",
    ),
    "other weights": (change(checkpoint="f" * 64), "checkpoint ffffffffffff"),
    "an action of no game": (change(rounds=[{"seed": 1, "actions": [99], "sha256": ""}]), "use 0..17"),
    "a past that is no picture": (
        change(rounds=[{"seed": 1, "actions": [1], "sha256": "", "past": {"png": "aGVsbG8=", "actions": [1]}}]),
        "cannot identify image",
    ),
}


@pytest.mark.parametrize("spoil, words", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_a_one_line_error(folder, tmp_path, spoil, words):
    file = tmp_path / "session.json"
    session(WorldEnv(str(folder)), str(folder)).save(file)
    file.write_text(spoil(json.loads(file.read_text())))
    with pytest.raises((ValueError, OSError), match=words) as error:
        command(file, "--check")
    assert "\n" not in str(error.value)


def test_a_round_may_change_its_denoising_steps(folder, tmp_path):
    env = WorldEnv(str(folder), steps=2)
    frames = [env.reset(seed=4)[0]]
    for steps in (1, 4, 4):
        env.steps = steps
        frames.append(env.step(5)[0])
    env.steps = 2
    changing = Round.of(4, [5, 5, 5], frames, steps=[1, 4, 4])
    same = Round.of(4, [5, 5, 5], frames)
    Replay(str(folder), env.model.fingerprint, 2, [changing, same], {}).save(tmp_path / "two.json")
    assert Replay.load(tmp_path / "two.json").check(env) == [1] and env.steps == 2


def test_what_was_asked_to_hold_in_a_scene_holds_again(tmp_path):
    env = WorldEnv(tiny_encounter())
    asked = {"npc": "hostile"}
    frames = [env.reset(seed=3, options={"conditions": asked})[0]]
    actions = [env.actions.vector(wave=1)] * 2
    frames += [env.step(action)[0] for action in actions]
    held, left_out = (Round.of(3, actions, frames, conditions=each) for each in (asked, None))
    Replay("numbers", env.model.fingerprint, env.steps, [held, left_out], {}).save(tmp_path / "scene.json")
    assert Replay.load(tmp_path / "scene.json").check(env) == [1]


def test_what_was_set_to_hold_in_mid_round_holds_again_from_there_on(tmp_path):
    env = WorldEnv(tiny_encounter())
    actions, changes = [env.actions.vector(wave=1)] * 4, [(1, {"npc": "hostile"}), (3, {"npc": "timid"})]
    frames = [env.reset(seed=3)[0]]
    for index, action in enumerate(actions):
        env.conditions = dict(changes).get(index, {})
        frames.append(env.step(action)[0])
    changed, left_out = Round.of(3, actions, frames, changes=changes), Round.of(3, actions, frames)
    Replay("numbers", env.model.fingerprint, env.steps, [changed, left_out], {}).save(tmp_path / "scene.json")
    assert Replay.load(tmp_path / "scene.json").check(env) == [1]


@pytest.mark.parametrize("role", [{"fixed": {"npc": None}}, {"fixed": {"npc": "timid"}}, {"channel_actions": True}])
def test_a_session_of_a_part_of_the_actions_is_painted_again_from_its_file(tmp_path, capsys, role):
    tiny_encounter().save_pretrained(tmp_path / "world")
    env = WorldEnv(str(tmp_path / "world"), **role)
    rounds = [played(env, seed, [env.actions.vector(wave=1)] * 3) for seed in (3, 4, 5)]
    Replay.of(env, rounds, str(tmp_path / "world")).save(tmp_path / "part.json")
    assert command(tmp_path / "part.json", "--check") == 0, capsys.readouterr().err


def test_a_session_longer_than_the_worlds_own_limit_is_painted_again_whole(tmp_path):
    world = tiny_encounter()
    world.info = replaced(world.info, max_episode_steps=2)
    world.save_pretrained(tmp_path / "world")
    env = WorldEnv(str(tmp_path / "world"), max_episode_steps=-1)
    session = Replay.of(env, [played(env, 3, [env.actions.vector(wave=1)] * 5)], str(tmp_path / "world"))
    assert session.check(session.environment(session.load_world())) == []


def test_steps_for_other_frames_than_there_are_is_one_line(tmp_path):
    short = Round(1, [0, 0], "", steps=[2])
    Replay("numbers", "", 2, [short], {}).save(tmp_path / "short.json")
    with pytest.raises(ValueError, match="damaged: a round with steps needs one number for each action"):
        Replay.load(tmp_path / "short.json")


@needs_kernels
def test_a_replay_names_the_engine_that_painted_and_is_checked_with_the_same(folder, tmp_path, capsys):
    plain = WorldModel.from_pretrained(folder)
    plain.play_plain()
    for name, model in {"packed": WorldModel.from_pretrained(folder), "plain": plain}.items():
        file = tmp_path / f"{name}.json"
        session(WorldEnv(model), str(folder)).save(file)
        assert Replay.load(file).machine["engine"] == name
        assert Replay.load(file).load_world().engine == name
        assert command(file, "--check") == 0
    assert "to the byte" in capsys.readouterr().out


@needs_kernels
def test_frames_of_an_engine_that_is_not_to_be_had_are_one_line(folder, tmp_path, no_compiler):
    file = tmp_path / "session.json"
    session(WorldEnv(str(folder)), str(folder)).save(file)
    stored = json.loads(file.read_text())
    stored["machine"]["engine"] = "compiled"
    file.write_text(json.dumps(stored))
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        with pytest.raises(ValueError, match="painted by the compiled engine, here paints the packed one") as error:
            command(file, "--check")
    assert "\n" not in str(error.value)
