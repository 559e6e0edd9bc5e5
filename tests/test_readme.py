"""What the README shows, run as it stands there, only shorter where a number says how long."""

import importlib
import os
import re
import shlex
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from worldsim import play
from worldsim.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^(worldsim \w+ [^#\n]*?)\s*(?:#|$)", TEXT, flags=re.MULTILINE)))
SHORTER = {"--seconds 20": "--seconds 0.4"}
OWN_GAME = re.search(r"^## Your own game\n(.*?)^## ", TEXT, flags=re.MULTILINE | re.DOTALL).group(1)
LOOP = "{steps: 1, batch: 2}"
SMALL = {
    "worldsim_training.collect": ["frames=200", "workers=1"],
    "worldsim_training": [
        *("world.data.frames=200", "world.data.clip_frames=3", "world.starts=2", "device=cpu", "compile=false"),
        *("world.model.dim=16", "world.model.depth=1", "world.model.heads=2", "world.model.conv_widths=[8,8]"),
        *(f"world.{stage}.loop={LOOP}" for stage in ("teacher_forcing", "consistency", "outcomes")),
        "world.consistency.intervals=4",
        *("validation_on_cpu.clips=1", "validation_on_cpu.frames=2", "validation_on_cpu.teacher_steps=2"),
        "gates.enabled=false",
    ],
}


def test_the_readme_shows_commands_and_programs():
    assert {command.split()[1] for command in COMMANDS} >= {"play", "record", "info"}
    assert [language for language, _ in BLOCKS].count("python") >= 1


@pytest.mark.parametrize("program", [text for language, text in BLOCKS if language == "python"])
def test_its_programs_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("range(100)", "range(5)"), "README.md", "exec"), {})


@pytest.mark.atari
@pytest.mark.parametrize("command", [each for each in COMMANDS if re.match(r"worldsim (record|info) (?!runs/)", each)])
def test_its_commands_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.atari
def test_a_recorded_session_replays_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (record,) = (each for each in COMMANDS if "--replay session.json" in each)
    (check,) = (each for each in COMMANDS if each.startswith("worldsim replay") and "--check" in each)
    for command in (record.replace("--seconds 20", "--seconds 0.4"), check):
        assert main(shlex.split(command)[1:]) == 0
    assert "same" in capsys.readouterr().out


def run_line(line, monkeypatch):
    """One line as a user types it, in this process, small where a line of SMALL says how."""
    words = shlex.split(line, comments=True)
    if words[0] == "worldsim":
        assert main(words[1:]) == 0
    elif words:
        _, _, module, *arguments = words
        monkeypatch.setattr(sys, "argv", [module, *arguments, *SMALL.get(module, [])])
        name = f"{module}.__main__" if module == "worldsim_training" else module
        importlib.import_module(name).main()


def test_a_game_of_ones_own_goes_from_recording_to_play_as_it_says(tmp_path, monkeypatch, one_thread, capsys):
    for package in ("minigrid", "pygame", "av"):
        pytest.importorskip(package)
    for screen in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(screen, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # no processes for so few frames
    monkeypatch.setattr(play, "CLIP_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    for language, text in re.findall(r"```(\w*)\n(.*?)```", OWN_GAME, flags=re.DOTALL):
        if language == "python":
            (tmp_path / re.match(r"# (\w+\.py)\n", text).group(1)).write_text(text)
            continue
        for line in text.splitlines():
            run_line(line.replace("--seconds 20", "--seconds 0.2"), monkeypatch)
    assert sorted(os.listdir(tmp_path / "runs")) == ["hill", "minigrid"]
    assert (tmp_path / "hill.mp4").is_file() and (tmp_path / "worldsim_clips" / "world.mp4").is_file()
    error = capsys.readouterr().err
    assert error.count("no real frames") == 1  # of Hill in play: nobody told it where the adapter is
    assert "no ends of games to draw clips around, so world.outcomes.end_share counts as 0" in error
    name, world = re.search(r'`gym\.make\("([^"]+)", world="([^"]+)"\)`', OWN_GAME).groups()
    env = gym.make(name, world=world)
    assert env.reset(seed=0)[0].shape == (32, 64, 3) and env.action_space.n == 3


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_its_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
