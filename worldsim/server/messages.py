"""What page and server say to each other.

The page sends text: `{"number": 7, "held": ["up"], "commands": ["pause"]}` whenever a key changes, with all that is
held, and `{"shown": 12}`, how many pictures it has shown. The server sends one text that tells the world, texts
`{"error": "..."}`, and one binary message a picture: the length of a JSON header in two bytes, big end first, the
header, the picture's file.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from worldsim.player import controls
from worldsim.player.game import Status

MESSAGE_BYTES = 2048
"""Longest message of a page."""
HELD_MOST, COMMANDS_MOST = 16, 8
NUMBER_MOST = 2**53
"""Whole numbers up to here are exact in a page."""

COMMANDS = ("pause", "single", "slower", "new", "hands", "condition", "1", "2", "4")
"""What a page may command; the player's other commands write files or end the program."""
PAGE_KEYS = {"h": "help", "f": "panel"}
"""Keys that the page obeys by itself."""

LOSSLESS_PIXELS = 160 * 160
"""Frames up to this size go as PNG, a few kilobytes each; larger ones as JPEG in full colour resolution."""
JPEG_QUALITY = 92

NUMBERED = "message "
"""A message's number travels through the game as one more held key, which no world knows: `Status.held` of a frame then
tells exactly which message it answers."""


@dataclass(frozen=True)
class Input:
    """All that a player holds, and what was commanded. number: of the page's message, counting up."""

    number: int
    held: frozenset[str]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """How many pictures the page has shown so far."""

    count: int


def parse(text: str, keys: Collection[str]) -> Input | Shown:
    """A page's message; ValueError in one line for anything else. keys: names that mean something in this world."""
    if len(text) > MESSAGE_BYTES:
        raise ValueError(f"message of {len(text)} characters; send at most {MESSAGE_BYTES}")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError('message is no JSON; send {"number": 1, "held": ["up"]} or {"shown": 1}') from None
    if not isinstance(told, dict) or not told.keys() <= {"number", "held", "commands", "shown"}:
        raise ValueError("message has another form; it takes number, held and commands, or shown")
    if "shown" in told:
        return Shown(_whole(told, "shown"))
    held = _names(told, "held", HELD_MOST, keys)
    return Input(_whole(told, "number"), frozenset(held), _names(told, "commands", COMMANDS_MOST, COMMANDS))


def hello(env, fps: float) -> str:
    """What a page must know of the world it plays: its name, size, speed, keys and commands."""
    info, spec = env.model.info, env.actions
    taken = controls.key_names(spec)
    commands = {key: name for key, name in controls.COMMANDS.items() if name in COMMANDS and key not in taken}
    own = {key: name for key, name in PAGE_KEYS.items() if key not in taken}
    known = {*commands, *own, controls.REWIND}
    rows = [(held, meaning) for held, meaning in controls.command_rows(spec) if set(held.lower().split()) <= known]
    told: dict[str, Any] = {
        "title": info.title,
        "width": info.width,
        "height": info.height,
        "fps": fps,
        "step_choices": list(info.step_choices),
        "memory": info.window_frames,
        "controls": spec.keys,
        "rewind": controls.REWIND,
        "commands": commands,
        "own": own,
        "help": {"play": controls.help_rows(spec), "more": rows},
    }
    return json.dumps(told)


def picture(frame: np.ndarray, status: Status) -> bytes:
    """The message of a frame (H, W, 3) uint8."""
    numbers = [int(name.removeprefix(NUMBERED)) for name in status.held if name.startswith(NUMBERED)]
    header = {
        "answers": max(numbers, default=0),
        "mode": status.mode,
        "score": round(status.score, 2),
        "step": status.step,
        "steps": status.steps,
        "seed": status.seed,
        "game_fps": round(status.game_fps, 1),
        "full_fps": round(status.full_fps, 2),
        "hands": status.hands,
        "note": status.note,
    }
    head = json.dumps(header).encode()
    return struct.pack(">H", len(head)) + head + encoded(frame)


def unpacked(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and picture file of what `picture` made."""
    (length,) = struct.unpack_from(">H", message)
    return json.loads(message[2 : 2 + length]), message[2 + length :]


def encoded(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) uint8 as a PNG, or a JPEG where it is large."""
    if frame.shape[0] * frame.shape[1] <= LOSSLESS_PIXELS:
        return png(frame)
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def png(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) uint8 as a PNG."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=1)
    return out.getvalue()


def error(line: str) -> str:
    """The message of something that went wrong."""
    return json.dumps({"error": " ".join(line.split())})


def _whole(told: dict, field: str) -> int:
    value = told.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBER_MOST:
        raise ValueError(f"'{field}' must be a whole number from 0 to 2**53")
    return value


def _names(told: dict, field: str, most: int, known: Collection[str]) -> tuple[str, ...]:
    names = told.get(field, [])
    if not isinstance(names, list) or len(names) > most or not all(isinstance(name, str) for name in names):
        raise ValueError(f"'{field}' must be a list of at most {most} names")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown name {name[:20]!r} in '{field}'; this world takes {', '.join(known)}")
    return tuple(names)
