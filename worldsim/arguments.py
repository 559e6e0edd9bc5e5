"""The argument types of the commands, for argparse, and the files that they name."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

COMPILE = (
    "paint in native code, quicker and with other last bits: the first time compiles for some minutes and needs a "
    "C++ compiler, later ones load in about 1.5 s; without a compiler one line says so and the world plays as usual"
)


def add_compile(parser: argparse.ArgumentParser) -> None:
    """The option --compile, the same for every command that plays a world."""
    parser.add_argument("--compile", action="store_true", help=COMPILE)


def natural(text: str) -> int:
    """A whole number from 0; ArgumentTypeError otherwise."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return value


def positive(kind: type) -> Callable[[str], float]:
    """The type of finite numbers of that kind (int, float) above 0; ArgumentTypeError otherwise."""

    def parse(text: str):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    parse.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return parse


def make_room_for(path: Path) -> None:
    """Make the folder of a file that is to be written later; OSError in one line, now, where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"cannot write '{path}' ({error.strerror}); give a file in a folder of your own") from None
