"""What the README shows, run as it stands there, only shorter where a number says how long."""

import re
import shlex
from pathlib import Path

import pytest

from worldsim.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^(worldsim \w+ [^#\n]*?)\s*(?:#|$)", TEXT, flags=re.MULTILINE)))
SHORTER = {"--seconds 20": "--seconds 0.4"}


def test_the_readme_shows_commands_and_programs():
    assert {command.split()[1] for command in COMMANDS} >= {"play", "record", "info"}
    assert [language for language, _ in BLOCKS].count("python") >= 1


@pytest.mark.parametrize("program", [text for language, text in BLOCKS if language == "python"])
def test_its_programs_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("range(100)", "range(5)"), "README.md", "exec"), {})


@pytest.mark.atari
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.split()[1] in ("record", "info")])
def test_its_commands_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_its_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
