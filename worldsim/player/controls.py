"""What a player can press, and the actions it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.action import DRIVEN, KINDS, ActionSpec

REWIND = "backspace"
"""The key that takes frames back for as long as it is held."""

# Key -> command. None of them is a letter of WASD, Q or E, with which games are played.
COMMANDS = {
    "escape": "quit", "tab": "pause", ".": "single", "-": "slower", "n": "new", "f5": "save", "f9": "load",
    "f6": "slot", "1": "1", "2": "2", "4": "4", "p": "repaint", "r": "record", "m": "hands", "h": "help", "f": "panel",
    "t": "truth", "k": "fork", "x": "swap", "b": "start", "v": "condition",
}  # fmt: skip

HELP = (
    ("Tab", "pause"), (".", "one frame, while paused"), ("-", "slow motion: 1/2, 1/4, full"),
    ("Backspace", "hold to rewind"), ("N", "new round"), ("F5  F9", "save, load"), ("F6", "next slot"),
    ("1  2  4", "network calls a frame"), ("P", "repaint the last seconds"), ("R", "record, stop recording"),
    ("M", "you, random or an --agent"), ("T", "the real game beside"), ("K", "fork: two futures"),
    ("X", "take the other future"), ("B", "begin at the next start"), ("V", "the next temperament"),
    ("F", "figures"), ("H", "these keys"), ("Esc", "quit"),
)  # fmt: skip

STEPS = ("1", "2", "4")
IMAGINED = {"save", "load", "slot", "repaint", "truth", "fork", "swap", "start", "condition", *STEPS}
"""Commands that the real game in a world's place does not know."""
STATES = {"new", "start", "save", "load", "repaint", "single", *STEPS}
"""Commands that name where the game shall be. Given again before the game could answer, they mean the same wish."""

LONG = {"Esc": "escape"}  # a key's short name -> pygame's
SHORT = {key: name for name, key in LONG.items()}

PRESSED = 0.5
"""Share of a stick's way from which it presses a button."""
WAYS = (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1))
"""Button channel, stick axis and sign that presses it."""


@dataclass(frozen=True)
class Keys:
    """What the player did since the last look."""

    held: frozenset[str] = frozenset()
    """Key names held now; a gamepad's buttons are "pad 0", "pad 1", ..."""
    tapped: frozenset[str] = frozenset()
    """Key names that went down since the last look; some may be up again."""
    commands: tuple[str, ...] = ()
    """In the order given."""
    stick: tuple[float, float] = (0.0, 0.0)
    """A gamepad's (x, y) in [-1, 1], right and down positive."""
    pointer: tuple[tuple[str, float], ...] = ()
    """Axis channels that the mouse drives, and how far, in [-1, 1]; right and down positive."""
    triggers: tuple[float, ...] = ()
    """How far a gamepad's triggers are pulled, in [0, 1], the right one first."""
    changed_at: float | None = None
    """`time.perf_counter()` of the first change; None where the window does not know it and the look has to count."""

    @property
    def pushed(self) -> tuple:
        """All that is held or pushed now."""
        return self.held, self.stick, self.pointer, self.triggers

    @property
    def active(self) -> frozenset[str]:
        """Keys that count for the next frame."""
        return self.held | self.tapped


def joined(waiting: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """Commands that wait for a turn and those given after them, each wish once.

    One of STATES that follows itself is dropped, and a number of steps gives way to the number after it.
    """
    kept = list(waiting)
    for command in given:
        last = kept[-1] if kept else None
        if command in STATES and (last == command or (command in STEPS and last in STEPS)):
            kept.pop()
        kept.append(command)
    return tuple(kept)


def vector(spec: ActionSpec, keys: Keys) -> np.ndarray:
    """Channel vector (A,) float32 of keys, gamepad and mouse; on each channel the strongest of them counts."""
    given = np.stack([spec.from_keys(keys.active), from_pad(spec, keys), spec.vector(**dict(keys.pointer))])
    return given[np.abs(given).argmax(axis=0), np.arange(spec.size)]


def from_pad(spec: ActionSpec, keys: Keys) -> np.ndarray:
    """Channel vector (A,) float32 of a gamepad.

    The stick drives the first two axes, or presses up, down, left and right; the right trigger drives the first pedal,
    the left one the second; the buttons press the other buttons and the pedals that a player has keys for, in the
    specification's order.
    """
    out = np.zeros(spec.size, np.float32)
    axes = [i for i, channel in enumerate(spec.channels) if channel.kind == "axis"]
    for i, push in zip(axes, keys.stick, strict=False):
        out[i] = push
    names = [channel.name for channel in spec.channels]
    for name, axis, sign in WAYS:
        if name in names and not axes:
            out[names.index(name)] = float(sign * keys.stick[axis] > PRESSED)
    for number, name in enumerate(pad_buttons(spec)):
        out[names.index(name)] = float(f"pad {number}" in keys.active)
    pedals = [i for i, channel in enumerate(spec.channels) if channel.kind == "pedal"]
    for i, pull in zip(pedals, keys.triggers, strict=False):
        out[i] = max(out[i], pull)
    return out


def pad_buttons(spec: ActionSpec) -> list[str]:
    """Channels that a gamepad's buttons 0, 1, ... press."""
    ways = {name for name, _, _ in WAYS}
    return [each.name for each in spec.channels if each.kind != "axis" and each.name in spec.keys.keys() - ways]


def key_names(spec: ActionSpec) -> tuple[str, ...]:
    """Names of all keys that play, each once."""
    return tuple(dict.fromkeys(name for names in spec.keys.values() for name in names))


def help_rows(spec: ActionSpec) -> list[tuple[str, str]]:
    """Keys and meaning of every channel that has keys."""
    return [("  ".join(name.capitalize() for name in names), channel) for channel, names in spec.keys.items()]


def command_rows(
    spec: ActionSpec, commands: Mapping[str, str] = COMMANDS, *, real: bool = False
) -> list[tuple[str, str]]:
    """Keys and meaning of the commands, without the keys that play in this world: there they command nothing.

    commands: key -> command, as the player has it. What changes conditions is left out where there are none; real: and
    so are the commands of imagined games.
    """
    taken = set(key_names(spec))
    unknown = IMAGINED if real else set() if spec.conditions else {"condition"}
    commands = {key: name for key, name in commands.items() if name not in unknown}
    rows = []
    for usual, meaning in HELP:
        named = [COMMANDS.get(LONG.get(key, key.lower()), REWIND) for key in usual.split()]
        keys = [key for name in named for key in _keys_of(name, commands) if key not in taken]
        rows.append(("  ".join(SHORT.get(key, key.capitalize()) for key in keys), meaning))
    return [(keys, meaning) for keys, meaning in rows if keys]


def _keys_of(name: str, commands: Mapping[str, str]) -> list[str]:
    return [REWIND] if name == REWIND else [key for key, command in commands.items() if command == name]


def next_value(spec: ActionSpec, group: str, held: str) -> str:
    """The value of a condition after the one that holds, round and round.

    DRIVEN is left out where the condition has channels that the player has no keys for: nothing would move.
    """
    values = spec.conditions[group]
    after = values[values.index(held) + 1 :] + values
    keyed = {name.rstrip("+-") for name, keys in spec.keys.items() if keys}
    lifeless = None if spec.further(group) <= keyed else DRIVEN
    return next(value for value in after if value != lifeless)


class RandomHands:
    """A random player that holds each choice for 1 to 8 frames; of buttons of their own they press one at a time."""

    def __init__(self, spec: ActionSpec, rng: np.random.Generator) -> None:
        self._spec, self._rng = spec, rng
        self._left = 0

    def act(self) -> Any:
        """The source game's own action for the next frame."""
        if not self._left:
            self._left, self._action = int(self._rng.integers(1, 9)), self._choose()
        self._left -= 1
        return self._action

    def _choose(self) -> Any:
        if self._spec.table is not None:
            return int(self._rng.integers(len(self._spec.table)))
        out = np.zeros(self._spec.size, np.float32)
        named = {name.rstrip("+-") for name in self._spec.keys}  # what no player presses rests
        mine = [i for i, channel in enumerate(self._spec.channels) if channel.name in named]
        buttons = [i for i in mine if self._spec.channels[i].kind == "button"]
        for i in mine:
            out[i] = self._rng.uniform(*KINDS[self._spec.channels[i].kind])
        out[buttons] = 0.0
        if buttons and (pressed := int(self._rng.integers(len(buttons) + 1))) < len(buttons):
            out[buttons[pressed]] = 1.0
        return out


def scripted(text: str, spec: ActionSpec) -> Iterator[Any]:
    """The source game's own actions of a script such as "right*10,up&fire*2,rest".

    Each entry names channels ("steer+" or "steer-" for an axis) or keys, joined by &, then for how many frames.
    ValueError in one line for anything else, before the first action.
    """
    turns = [_turn(entry.strip(), spec) for entry in text.split(",")]
    return (action for action, frames in turns for _ in range(frames))


def _turn(entry: str, spec: ActionSpec) -> tuple[Any, int]:
    held, _, times = entry.partition("*")
    times = times.strip() or "1"
    if not times.isdecimal() or not int(times):
        raise ValueError(f"'{entry}' asks for {times} frames; write it as 'right*10'")
    known = {name: name for name in key_names(spec)} | {name: names[0] for name, names in spec.keys.items()}
    pressed = [] if held.strip() == "rest" else [name.strip() for name in held.split("&")]
    for name in pressed:
        if name not in known:
            raise ValueError(f"unknown key '{name}' in '{entry}'; this world has rest, {', '.join(known)}")
    return spec.decode(spec.from_keys(known[name] for name in pressed)), int(times)
