"""Scripts of what the player does, such as "right*4,wave": names to buttons held frame by frame."""

from __future__ import annotations

from worldsim.names import did_you_mean
from worldsim_envs.encounter.rules import BUTTONS, GESTURES

REST = "rest"
USUAL_FRAMES = {"left": 4, "right": 4, "guard": 8, REST: 4}
"""Frames for which a button is held where the script does not say; the other gestures end by themselves: 1."""
MOST_FRAMES = 300


def read_script(script: str) -> list[str]:
    """The button of each frame, "" for none. Steps are joined by commas, `*` says for how many frames one is held.

    ValueError in one line for an unknown name, with the nearest one, for buttons that exclude each other and for a
    number of frames that is none.
    """
    if not isinstance(script, str) or not script.strip():
        raise ValueError(f"script {script!r} names nothing to do; give a gesture such as 'wave', or 'right*4,wave'")
    return [button for step in script.split(",") for button in _read_step(step.strip())]


def read_button(name: str) -> str:
    """One button by its name, "" for none; ValueError in one line for any other answer, a script of several too."""
    if not isinstance(name, str) or "," in name or "*" in name:
        raise ValueError(f"{name!r} is no button; answer with one, such as 'wave', or with '' for none")
    if not name.strip():
        return ""
    return _read_step(f"{name}*1")[0]


def _read_step(step: str) -> list[str]:
    names, star, times = step.partition("*")
    held = [name.strip() for name in names.split("&")]
    for name in held:
        if name not in (*BUTTONS, REST):
            hint = did_you_mean(name, (*BUTTONS, REST), cutoff=0.5)
            raise ValueError(f"unknown gesture {name!r}; {hint}there is {', '.join(BUTTONS)} and {REST}")
    button = _only(held)
    count = _count(times, step) if star else USUAL_FRAMES.get(button, 1)
    return ["" if button == REST else button] * count


def _only(held: list[str]) -> str:
    """The one button that counts. Walking while making a gesture is none: the gesture goes first, as the rules say."""
    gestures = [name for name in held if name in GESTURES]
    clash = gestures if len(set(gestures)) > 1 else [name for name in held if name not in GESTURES]
    if len(set(clash)) > 1:
        both = " and ".join(repr(name) for name in clash)
        raise ValueError(f"conflicting buttons {both}; hold one at a time, such as '{clash[0]},{clash[1]}'")
    return (gestures or held)[0]


def _count(text: str, step: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= MOST_FRAMES:
        raise ValueError(f"{step!r} is held for {text.strip()!r} frames; give a number from 1 to {MOST_FRAMES}")
    return int(text)
