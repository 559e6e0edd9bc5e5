"""The command line: finding commands, and what a user sees when something is wrong."""

import argparse
import re
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.metadata import entry_points, metadata

import pytest

from worldsim.arguments import COMPILE
from worldsim.cli import EXTRAS, GROUP, main, warnings_in_one_line

GREET = '''"""A greeting, 100 % polite."""
def add_arguments(parser):
    parser.add_argument("name")
    parser.add_argument("--fail")

def run(args):
    if args.fail == "value":
        raise ValueError("bad name;\\nseen 'x'")
    if args.fail == "file":
        open("/nowhere/at/all")
    if args.fail == "extra":
        import pygame
    if args.fail == "bug":
        raise RuntimeError("a bug")
    print("hello", args.name)
    return 3
'''


@pytest.fixture
def greet(tmp_path, monkeypatch):
    """An installed package that adds the commands `greet` and `grumble`; the latter's module cannot be imported."""
    (tmp_path / "greet_command.py").write_text(GREET)
    (tmp_path / "grumble_command.py").write_text("raise RuntimeError('imported')")
    info = tmp_path / "greet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ngreet = greet_command\ngrumble = grumble_command\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("greet_command", None)


def error_line(capsys) -> str:
    """What was printed to stderr, which must be one line and all that was printed."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


def test_a_command_of_another_package_runs_and_sets_the_exit_status(greet, capsys):
    assert main(["greet", "you"]) == 3
    assert capsys.readouterr().out == "hello you\n"


def test_help_lists_every_command_with_its_module_docstring_and_loads_none(greet, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert re.search(r"^ +greet +A greeting, 100 % polite\.$", out, re.MULTILINE)
    assert {point.name for point in entry_points(group=GROUP)} <= set(out.split())
    assert "greet_command" not in sys.modules


def test_help_imports_no_torch():
    code = "from worldsim.cli import main; import sys\nmain([])\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: worldsim")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["paly"]) == 2
    assert error_line(capsys).startswith("worldsim: unknown command 'paly'; did you mean 'play'? there are ")


@pytest.mark.parametrize(
    ("fail", "line"),
    [("value", "worldsim: bad name; seen 'x'"), ("file", "worldsim: No such file or directory: '/nowhere/at/all'")],
)
def test_an_error_of_a_command_is_one_line(greet, capsys, fail, line):
    assert main(["greet", "you", "--fail", fail]) == 2
    assert error_line(capsys) == line


def test_a_missing_extra_says_how_to_get_it(greet, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert main(["greet", "you", "--fail", "extra"]) == 2
    assert error_line(capsys) == 'worldsim: pygame is not installed; run: pip install "worldsim[play]"'


def test_every_extra_in_a_hint_exists():
    assert set(EXTRAS.values()) <= set(metadata("worldsim").get_all("Provides-Extra"))


@pytest.mark.parametrize("argv", [["--debug", "greet", "you"], ["greet", "you", "--debug"]])
def test_debug_shows_the_traceback(greet, argv):
    with pytest.raises(ValueError, match="bad name"):
        main([*argv, "--fail", "value"])


def test_a_bug_is_not_hidden(greet):
    with pytest.raises(RuntimeError, match="a bug"):
        main(["greet", "you", "--fail", "bug"])


def test_an_unknown_world_names_the_shipped_ones(capsys):
    assert main(["info", "nosuchworld"]) == 2
    assert error_line(capsys).startswith("worldsim: unknown world 'nosuchworld'; ")


def test_a_warning_is_one_line_while_a_command_runs_and_as_usual_afterwards():
    told = "two\nlines", UserWarning, "file.py", 3
    usual = warnings.formatwarning(*told)
    with warnings_in_one_line("worldsim"):
        assert warnings.formatwarning(*told) == "worldsim: two lines\n"
    assert warnings.formatwarning(*told) == usual and "file.py:3" in usual


@pytest.mark.parametrize("module", ["worldsim.play", "worldsim.serve", "worldsim_envs.record"])
def test_commands_that_play_a_world_offer_compiling_in_the_same_words(module):
    parser = argparse.ArgumentParser()
    import_module(module).add_arguments(parser)
    assert not parser.parse_args([]).compile and parser.parse_args(["--compile"]).compile
    assert COMPILE in " ".join(parser.format_help().split())
