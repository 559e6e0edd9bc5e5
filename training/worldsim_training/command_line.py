"""The words of a hydra command, in any order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps

from hydra._internal.utils import get_args_parser


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
