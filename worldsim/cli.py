"""The `worldsim` command line.

A command is an entry point in the group `worldsim.commands`, so an installed package can add its own. The value is a
module with `add_arguments(parser)` and `run(args) -> int`; the first line of its docstring is its help. Only the chosen
command's module is imported.
"""

import argparse
import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from worldsim import __version__
from worldsim.names import did_you_mean

GROUP = "worldsim.commands"

# Module -> the extra that brings it.
EXTRAS = {
    "ale_py": "atari",
    "av": "video",
    "fastapi": "serve",
    "matplotlib": "eval",
    "minigrid": "minigrid",
    "onnx": "export",
    "onnxruntime": "export",
    "playwright": "test",
    "pygame": "play",
    "stable_baselines3": "rl",
    "tensorboard": "train",
    "torchmetrics": "eval",
    "uvicorn": "serve",
    "vizdoom": "doom",
    "websockets": "serve",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. argv: the arguments after `worldsim`, by default the process's own.

    A ValueError, OSError or ImportError of a command is shown as one line and gives 2; `--debug` raises it instead.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings_in_one_line("worldsim"):
            return _run(argv)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        if "--debug" in argv:
            raise
        print(f"worldsim: {one_line(error)}", file=sys.stderr)
        return 2


def _run(argv: Sequence[str]) -> int:
    points = {point.name: point for point in sorted(entry_points(group=GROUP))}
    name = next((word for word in argv if not word.startswith("-")), None)
    if name is not None and name not in points:
        hint = did_you_mean(name, points)
        raise ValueError(f"unknown command '{name}'; {hint}there are {', '.join(points)}")
    parser, commands = _parser(points)
    if name is None:
        parser.parse_args(argv)
        parser.print_help()
        return 2
    module = import_module(points[name].module)
    commands[name].description = module.__doc__
    module.add_arguments(commands[name])
    return module.run(parser.parse_args(argv))


def _parser(points: dict[str, EntryPoint]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The outer parser, and that of each command, still without the command's own arguments."""
    parser = argparse.ArgumentParser(
        prog="worldsim",
        description="Play, record, measure and inspect worlds painted by a video diffusion model.",
        epilog="`worldsim COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"worldsim {__version__}")
    debug = {"action": "store_true", "help": "show the traceback of an error"}
    parser.add_argument("--debug", **debug)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    layout = argparse.RawDescriptionHelpFormatter
    for name, point in points.items():
        command = subparsers.add_parser(name, help=_summary(point.module), formatter_class=layout)
        command.add_argument("--debug", default=argparse.SUPPRESS, **debug)
    return parser, subparsers.choices


def _summary(module: str) -> str:
    """First docstring line of a module, read from its source: importing it may take seconds."""
    try:
        spec = find_spec(module)
    except ImportError:
        spec = None
    if spec is None or not spec.has_location or not spec.origin.endswith(".py"):
        return "(not installed)" if spec is None else ""
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0].replace("%", "%%")  # argparse expands %


@contextmanager
def warnings_in_one_line(program: str) -> Iterator[None]:
    """Change how this process shows warnings while it lasts: one line without the place in the code."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *place, **code: f"{program}: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def one_line(error: Exception) -> str:
    """What an error says, on one line; for a missing package the extra that brings it."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS and "worldsim[" not in str(error):
        return f'{error.name} is not installed; run: pip install "worldsim[{EXTRAS[error.name]}]"'
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: '{error.filename}'"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
