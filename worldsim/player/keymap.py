"""The player's own keys, read from a small toml file.

    [play]                  # channel = keys that press it; an axis has "steer+" and "steer-"
    fire = ["space", "j"]
    up = ["i"]

    [commands]              # command = keys; `worldsim play --help` lists them
    pause = ["p"]
    repaint = ["f2"]

    [mouse]                 # while the left button is held, how far the pointer is from the picture's middle
    x = "steer"             # an axis channel; "" for none (default: the first axis, then the second)

What the file leaves out stays as it is, but a key that it gives away does nothing else. Keys have pygame's names.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldsim.action import ActionSpec
from worldsim.names import did_you_mean
from worldsim.player.controls import COMMANDS, REWIND
from worldsim.window import key_name

NAME = "keys.toml"
SECTIONS = ("play", "commands", "mouse")


@dataclass(frozen=True)
class KeyMap:
    """What each key does. actions: the world's, with the player's keys; commands: key -> command."""

    actions: ActionSpec
    commands: Mapping[str, str] = field(default_factory=lambda: dict(COMMANDS))
    mouse: tuple[str, str] = ("", "")
    """Axis channels that the pointer's x and y drive; empty for none."""

    @classmethod
    def usual(cls, actions: ActionSpec) -> KeyMap:
        """The world's own keys, and the pointer on its first two axes."""
        axes = [each.name for each in actions.channels if each.kind == "axis"]
        x, y = (axes + ["", ""])[:2]
        return cls(actions, mouse=(x, y))


def usual_file(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where a user's own keys are looked for on this system."""
    home = Path.home()
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "worldsim" / NAME
    if platform == "darwin":
        return home / "Library" / "Application Support" / "worldsim" / NAME
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "worldsim" / NAME


def load(path: Path | None, actions: ActionSpec) -> KeyMap:
    """The keys of that file for that world. None: the user's own file, in which channels of other worlds may stand.

    ValueError or FileNotFoundError in one line, with the nearest name, where the file is wrong.
    """
    file = path or usual_file()
    usual = KeyMap.usual(actions)
    if path is None and not file.is_file():
        return usual
    told = _read(file)
    play = told.get("play", {})
    wanted = [each.name if each.kind == "button" else each.name + way for each in actions.channels for way in "+-"]
    known = list(dict.fromkeys(wanted))
    if path is None:
        play = {name: keys for name, keys in play.items() if name in known}
    play = {_known(file, "play", name, known): _keys(file, f"play.{name}", keys) for name, keys in play.items()}
    names = list(dict.fromkeys(COMMANDS.values()))
    commands = {
        _known(file, "commands", name, names): _keys(file, f"commands.{name}", keys)
        for name, keys in told.get("commands", {}).items()
    }
    _check_apart(file, play | commands)
    return KeyMap(_played(actions, play, commands), _commanded(play, commands), _mouse(file, told, usual, path is None))


def _played(actions: ActionSpec, play: Mapping, commands: Mapping) -> ActionSpec:
    taken = {key for keys in (*play.values(), *commands.values()) for key in keys}
    kept = {name: [key for key in keys if key not in taken] for name, keys in actions.keys.items()}
    told = {"names": actions.names, "conditions": actions.conditions}
    return ActionSpec(actions.channels, actions.table, keys=kept | dict(play), **told)


def _commanded(play: Mapping, commands: Mapping) -> dict[str, str]:
    taken = {key for keys in play.values() for key in keys}
    own = {key: name for name, keys in commands.items() for key in keys}
    kept = {key: name for key, name in COMMANDS.items() if name not in commands and key not in taken}
    return kept | own


def _mouse(file: Path, told: Mapping[str, Any], usual: KeyMap, lenient: bool) -> tuple[str, str]:
    axes = [each.name for each in usual.actions.channels if each.kind == "axis"]
    chosen = dict(zip("xy", usual.mouse, strict=True))
    for way, name in told.get("mouse", {}).items():
        way = _known(file, "mouse", way, list("xy"))
        if lenient and name and name not in axes:
            continue
        chosen[way] = _known(file, f"mouse.{way}", name, axes) if name else ""
    return chosen["x"], chosen["y"]


def _read(file: Path) -> dict[str, Any]:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"keys file '{file}' is not toml: {error}") from None
    for section, content in told.items():
        _known(file, "sections", section, SECTIONS)
        if not isinstance(content, dict):
            raise ValueError(f"keys file '{file}': {section} is a section; write [{section}]")
    return told


def _known(file: Path, where: str, name: Any, known: Iterable[str]) -> str:
    known = list(known)
    if name in known:
        return name
    hint = did_you_mean(name, known)
    raise ValueError(
        f"keys file '{file}': unknown name {name!r} in {where}; {hint}there is {', '.join(known) or 'none'}"
    )


def _keys(file: Path, where: str, keys: Any) -> tuple[str, ...]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f'keys file \'{file}\': {where} is {keys!r}; give a list of key names such as ["space", "j"]')
    try:
        heard = tuple(key_name(key.lower()) for key in keys)
    except ValueError as error:
        raise ValueError(f"keys file '{file}': {where}: {error}") from None
    if REWIND in heard:
        raise ValueError(f"keys file '{file}': {where} takes {REWIND}, which rewinds; choose another key")
    return heard


def _check_apart(file: Path, given: Mapping[str, tuple[str, ...]]) -> None:
    owner: dict[str, str] = {}
    for name, keys in given.items():
        for key in keys:
            if owner.setdefault(key, name) != name:
                raise ValueError(f"keys file '{file}': {key!r} is given to {owner[key]} and to {name}; choose one")
