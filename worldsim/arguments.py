"""The argument types of the commands, for argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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
