"""The words of a hydra command: in any order, and as the name of a folder."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import wraps

from hydra._internal.utils import get_args_parser

LONGEST_NAME = 255
"""Bytes of a file's name on common file systems."""


def in_any_order(main: Callable[[], None]) -> Callable[[], None]:
    """A hydra command that takes its options, `-m`, before, between and after its overrides. Changes `sys.argv`."""

    @wraps(main)
    def ordered() -> None:
        sys.argv[1:] = overrides_first(sys.argv[1:])
        main()

    return ordered


def overrides_first(words: list[str]) -> list[str]:
    """The same words, options behind overrides, as hydra understands them. SystemExit where an option is unknown."""
    overrides = get_args_parser().parse_intermixed_args(words).overrides
    options = list(words)
    for each in overrides:
        options.remove(each)
    return [*overrides, *options]


def folder_name(words: str) -> str:
    """One folder's name for overrides: `a.b=1,c=2` is one itself, unless it is too long or has a slash.

    A long one keeps its end, where the world's settings stand, and a hash makes up for all that was changed or cut.
    """
    name = words.replace("/", "-").encode()
    if name == words.encode() and len(name) <= LONGEST_NAME:
        return words
    mark = f"-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    return name[len(mark) - LONGEST_NAME :].decode(errors="ignore") + mark
