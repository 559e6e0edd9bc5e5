"""Names as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The hint "did you mean 'right'? ", for the middle of an error's line; empty where no known name is near.

    cutoff: in [0, 1], how alike a name must be at least, as in `difflib.get_close_matches`.
    """
    near = get_close_matches(str(name), known, n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}? " if near else ""


def titled(name: str, env_id: str = "") -> str:
    """A world's name as a heading: "take_cover" is "Take Cover"; where the game's id is the same word, as that has it:
    "carracing" is "Car Racing"."""
    stem = env_id.rpartition("/")[2].partition("-")[0]
    is_its_name = stem.lower() == name.replace("_", "").lower()
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem) if is_its_name else name.replace("_", " ").title()
