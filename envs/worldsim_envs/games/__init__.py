"""The source games by name; a game's own package is imported only when it is started."""

from __future__ import annotations

import difflib

from worldsim.action import ActionSpec
from worldsim_envs.games.base import Game
from worldsim_envs.games.boxing import Boxing

GAMES: dict[str, type[Game]] = {game.name: game for game in (Boxing,)}

__all__ = ["Game", "game_actions", "game_class", "game_names", "make_game", "source_game"]


def make_game(name: str) -> Game:
    """Start a game. ValueError for an unknown name; ModuleNotFoundError, naming the extra, without its package."""
    return game_class(name)()


def game_class(name: str) -> type[Game]:
    """The adapter of a game, not started: its facts, and the readers of positions. ValueError for an unknown name."""
    if name not in GAMES:
        near = difflib.get_close_matches(name, GAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown game {name!r}; {hint}there is {', '.join(GAMES)}")
    return GAMES[name]


def game_names() -> tuple[str, ...]:
    """Names of all source games."""
    return tuple(GAMES)


def source_game(env_id: str) -> type[Game]:
    """The adapter of the real game with that gymnasium id, not started; ValueError where there is none."""
    for game in GAMES.values():
        if game.env_id == env_id:
            return game
    known = ", ".join(game.env_id for game in GAMES.values())
    raise ValueError(f"there is no adapter for the game {env_id}; there is one for {known}")


def game_actions(name: str) -> ActionSpec:
    """The actions of a game; needs no package of the game."""
    return game_class(name).actions
