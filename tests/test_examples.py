"""Every example runs as a user would run it, on a small world."""

import subprocess
import sys
from pathlib import Path

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


def run(name, world, folder):
    command = [sys.executable, EXAMPLES / name, world]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_example_has_a_test_here_but_for_ppo_which_has_a_file_of_its_own():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"random_agent.py", "own_start.py", "ppo_boxing.py"}


def test_the_random_agent_plays(world, tmp_path):
    out = run("random_agent.py", world, tmp_path)
    assert "frames of (64, 64, 3), score" in out and len(out.splitlines()) == 1


@pytest.mark.atari
def test_a_past_of_ones_own_gets_two_futures(world, tmp_path):
    run("own_start.py", world, tmp_path)
    with Image.open(tmp_path / "own_start.png") as picture:
        assert picture.size == (9 * 64 * 3, 2 * 64 * 3)
        left, right = picture.crop((0, 0, 192, 192)), picture.crop((0, 192, 192, 384))
        assert left.tobytes() == right.tobytes()
        assert picture.crop((192, 0, 1728, 192)).tobytes() != picture.crop((192, 192, 1728, 384)).tobytes()
