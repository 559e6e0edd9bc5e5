"""Every example runs as a user would run it, on a small world."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import tiny
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A random world with frames of the size that Boxing's have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "HEIGHT", 64)
        return tiny.save_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def encounter(tmp_path_factory):
    """A random world of Encounter."""
    folder = tmp_path_factory.mktemp("encounter")
    tiny.tiny_encounter(dim=16, depth=1).save_pretrained(folder)
    return folder


def run(name, *arguments, folder, **environment):
    command = [sys.executable, EXAMPLES / name, *arguments]
    settings = {"capture_output": True, "text": True, "timeout": 120, "env": os.environ | environment}
    done = subprocess.run(command, cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_example_has_a_test_here_but_for_ppo_which_has_a_file_of_its_own():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "random_agent.py",
        "own_start.py",
        "road_follower.py",
        "ppo_boxing.py",
        "npc_reaction.py",
        "npc_live.py",
        "gesture_input.py",
    }


def test_the_random_agent_plays(world, tmp_path):
    out = run("random_agent.py", world, folder=tmp_path)
    assert "frames of (64, 64, 3), score" in out and len(out.splitlines()) == 1


@pytest.mark.atari
def test_a_past_of_ones_own_gets_two_futures(world, tmp_path):
    run("own_start.py", world, folder=tmp_path)
    with Image.open(tmp_path / "own_start.png") as picture:
        assert picture.size == (9 * 64 * 3, 2 * 64 * 3)
        left, right = picture.crop((0, 0, 192, 192)), picture.crop((0, 192, 192, 384))
        assert left.tobytes() == right.tobytes()
        assert picture.crop((192, 0, 1728, 192)).tobytes() != picture.crop((192, 192, 1728, 384)).tobytes()


def test_reactions_come_as_a_grid_and_twice_as_the_same_bytes(tmp_path):
    written = []
    for _ in range(2):
        out = run("npc_reaction.py", "game", folder=tmp_path)
        written.append([(tmp_path / f"npc_reaction.{suffix}").read_bytes() for suffix in ("png", "gif")])
    assert written[0] == written[1] and "source game, 20 of 20 scenes" in out
    with Image.open(tmp_path / "npc_reaction.gif") as film:
        assert film.n_frames > 20


def test_a_worlds_reactions_are_told_to_be_its_own(encounter, tmp_path):
    assert "imagined by the world encounter" in run("npc_reaction.py", encounter, folder=tmp_path)


@pytest.mark.parametrize("world", ["game", "imagined"])
def test_an_npc_lives_in_a_window_of_the_users_own(world, encounter, tmp_path):
    pytest.importorskip("pygame")
    where = [encounter if world == "imagined" else "game"]
    out = run("npc_live.py", *where, "--frames", "4", "--save", "live.png", folder=tmp_path, SDL_VIDEODRIVER="dummy")
    assert out.startswith("4 frames, ") and world in out
    with Image.open(tmp_path / "live.png") as picture:
        assert picture.size == (640, 600) and len(picture.getcolors(1 << 20)) > 20


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("npc_live.py", "nope"), "npc_live: unknown world 'nope'"),
        (("npc_live.py", "game", "--frames", "0"), "--frames: 0 is not a number above 0"),
        (("npc_live.py", "game", "--save", "x.foo"), "--save x.foo: it writes a .png"),
        (("npc_reaction.py", "nope"), "npc_reaction: unknown world 'nope'"),
        (("gesture_input.py", "nope"), "gesture_input: unknown world 'nope'"),
        (("gesture_input.py", "game", "--temperament", "angry"), "gesture_input: unknown temperament 'angry'"),
        (("npc_reaction.py", "boxing"), "npc_reaction: world 'boxing' has no NPC to meet"),
    ],
)
def test_what_cannot_be_is_one_line(command, words, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / command[0], *command[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"SDL_VIDEODRIVER": "dummy"},
    )
    assert done.returncode and words in done.stderr and "Traceback" not in done.stderr


def test_motions_become_gestures_with_measured_latency(tmp_path):
    out = run("gesture_input.py", "game", "--seconds", "2.2", folder=tmp_path)
    assert out.startswith("wave: read ") and "1 gestures, source game: reading a point" in out


CAMERA = '''
import time

COLOR_BGR2RGB = 4
began = now = time.perf_counter()
time.perf_counter = lambda: now  # the film's own time, however slow the machine is


class VideoCapture:
    """Thirty pictures a second that only tell when they were taken; then the cable is pulled."""

    def __init__(self, number):
        assert number == 0

    def isOpened(self):
        return True

    def read(self):
        global now
        now += 1 / 30
        time.sleep(0.01)  # while a frame is painted
        return now - began < 4.0, now - began


def cvtColor(picture, code):
    assert code == COLOR_BGR2RGB
    return picture
'''
HANDS = '''
from types import SimpleNamespace as Space

WAVES = {0.0: 0.4, 0.25: 0.65, 0.5: 0.4, 0.75: 0.65, 1.0: 0.4}  # second -> column of the hand


class Hands:
    def __init__(self, max_num_hands):
        assert max_num_hands == 1

    def process(self, seconds):
        """No hand for a second and a half, then one that waves, from side to side."""
        import numpy as np

        since = seconds - 1.5
        if since < 0:
            return Space(multi_hand_landmarks=None)
        column = float(np.interp(since, list(WAVES), list(WAVES.values())))
        elsewhere = Space(x=7.0, y=7.0)
        return Space(multi_hand_landmarks=[Space(landmark=[elsewhere] * 8 + [Space(x=1 - column, y=1.2)])])


solutions = Space(hands=Space(Hands=Hands))
'''


def test_a_hand_before_the_camera_makes_gestures_until_the_camera_is_gone(tmp_path):
    """With modules that stand in for opencv-python and mediapipe: as many points a second, at the same places."""
    pytest.importorskip("pygame")
    for name, text in (("cv2", CAMERA), ("mediapipe", HANDS)):
        (tmp_path / f"{name}.py").write_text(text)
    where = os.environ | {"SDL_VIDEODRIVER": "dummy", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, EXAMPLES / "gesture_input.py", "game", "--source", "camera", "--seconds", "30"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=where)
    assert done.stdout.startswith("wave: read ") and done.stdout.count("read ") == 1
    assert done.returncode == 1 and done.stderr == "gesture_input: the camera gives no picture; use --source pointer\n"


def test_a_motion_source_that_is_not_there_is_told_in_one_line(tmp_path):
    pytest.importorskip("pygame")
    for source, words in (("pad", "no controller is connected"), ("camera", "opencv-python mediapipe")):
        command = [sys.executable, EXAMPLES / "gesture_input.py", "game", "--source", source]
        if source == "camera" and find_spec("mediapipe"):
            continue
        environment = os.environ | {"SDL_VIDEODRIVER": "dummy"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_road_follower_drives_the_real_game():
    """Random play earns some ten in as many steps."""
    pytest.importorskip("Box2D")
    agent = runpy.run_path(str(EXAMPLES / "road_follower.py"))["act"]
    env = gym.make("CarRacing-v3")
    observation, _ = env.reset(seed=0)
    score = 0.0
    for _ in range(300):
        observation, reward, *_ = env.step(agent(observation, np.random.default_rng(0)))
        score += reward
    env.close()
    assert score > 150
    assert agent(np.full((96, 96, 3), (100, 200, 100), np.uint8), np.random.default_rng(0))[0] == 0
