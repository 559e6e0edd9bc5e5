"""The source games by name; a game's own package is imported only when it is started."""

from __future__ import annotations

import importlib
import inspect
import os
import sys

from worldsim.action import ActionSpec
from worldsim.names import did_you_mean
from worldsim_envs.games.base import Game
from worldsim_envs.games.boxing import Boxing
from worldsim_envs.games.carracing import CarRacing
from worldsim_envs.games.deadly_corridor import DeadlyCorridor
from worldsim_envs.games.doom import TakeCover
from worldsim_envs.games.encounter import Encounter, EncounterPair
from worldsim_envs.games.freeway import Freeway
from worldsim_envs.games.gymnasium_game import GymnasiumGame
from worldsim_envs.games.minigrid import MiniGrid
from worldsim_envs.games.pong import Pong

_ALL = (Boxing, Pong, Freeway, CarRacing, TakeCover, DeadlyCorridor, MiniGrid, Encounter, EncounterPair)
FACTS = ("name", "env_id", "licence", "packages", "fps", "height", "width", "actions", "max_episode_steps")
"""What every adapter says of its game."""
GAMES: dict[str, type[Game]] = {game.name: game for game in _ALL}

__all__ = [
    "Game",
    "GymnasiumGame",
    "game_actions",
    "game_class",
    "game_name",
    "game_names",
    "make_game",
    "matching_game",
    "source_game",
]


def make_game(name: str) -> Game:
    """Start a game. ValueError for an unknown name; ModuleNotFoundError, naming the extra, without its package."""
    return game_class(name)()


def game_class(name: str) -> type[Game]:
    """The adapter of a game, not started: its facts, and the readers of positions.

    name: one of `game_names()`, or `module:Class` for an adapter of one's own, imported from the working folder or
    from an installed package. It runs that module's code: pass on what a user typed, never what a file says.
    ValueError, with the nearest name, where there is none.
    """
    if ":" in name:
        return _own_class(*name.split(":", 1))
    if name not in GAMES:
        known = f"there is {', '.join(GAMES)}; or give an adapter of your own as module:Class"
        raise ValueError(f"unknown game {name!r}; {did_you_mean(name, GAMES)}{known}")
    return GAMES[name]


def game_names() -> tuple[str, ...]:
    """Names of all source games."""
    return tuple(GAMES)


def source_game(env_id: str, own: str | None = None) -> type[Game]:
    """The adapter of the real game with that gymnasium id, not started; ValueError where there is none.

    own: the adapter that the user named, as `game_class` takes it; None looks among the package's own.
    """
    if own is not None:
        game = game_class(own)
        if game.env_id != env_id:
            raise ValueError(f"{own} is an adapter of {game.env_id}; this world imagines {env_id}")
        return game
    for game in GAMES.values():
        if game.env_id == env_id:
            return game
    known = ", ".join(game.env_id for game in GAMES.values())
    raise ValueError(f"there is no adapter for the game {env_id}, only for {known}; name yours: --game module:Class")


def game_name(env_id: str) -> str | None:
    """Name of the package's own adapter of that gymnasium id; None where there is none."""
    return next((game.name for game in GAMES.values() if game.env_id == env_id), None)


def matching_game(env_id: str, shape: tuple[int, int], actions: ActionSpec, own: str | None = None) -> type[Game]:
    """The adapter of the game that a world imagines, not started. ValueError where its frames or actions are others.

    shape: (H, W) of the world's frames; actions: the world's; own: as `source_game` takes it.
    """
    kind = source_game(env_id, own)
    if (kind.height, kind.width) != tuple(shape):
        raise ValueError(f"frames of {kind.name} are not {shape[0]}x{shape[1]}")
    if kind.actions.to_json()["table"] != actions.to_json()["table"]:
        raise ValueError(f"{kind.name} and the world number their actions differently")
    return kind


def game_actions(name: str) -> ActionSpec:
    """The actions of a game; needs no package of the game."""
    return game_class(name).actions


def _own_class(module_name: str, class_name: str) -> type[Game]:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # `python -m` has it there, an installed command has not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise ValueError(f"there is no module {module_name!r} in {os.getcwd()} or among the packages") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot import a game from {module_name!r}: {error}") from None
    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, Game)}
    games = {name: kind for name, kind in kinds.items() if not inspect.isabstract(kind) and kind is not GymnasiumGame}
    if class_name not in games:
        known = f"there is {', '.join(games)}" if games else "it defines no whole subclass of Game"
        hint = did_you_mean(class_name, games)
        raise ValueError(f"unknown game {class_name!r} in module {module_name!r}; {hint}{known}")
    kind = games[class_name]
    if lacking := [fact for fact in FACTS if not hasattr(kind, fact)]:
        raise ValueError(
            f"{class_name} in module {module_name!r} does not state {', '.join(lacking)}; give it as in Game"
        )
    return kind
