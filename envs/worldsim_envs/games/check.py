"""The checker of adapters: `python -m worldsim_envs.games.check my_game:MyGame` plays one and says what is wrong."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from typing import Any

import numpy as np

from worldsim.player.controls import REWIND
from worldsim_envs.games import Game, game_class

Step = tuple[np.ndarray, float, bool]
"""What `Game.step` returns: frame, reward, whether the episode ended."""

REDUCTION = 8  # pixels of a frame's side for one token of the network
LAST = 4  # frames asked of `last_frames`
MOST_REWARDS = 32  # in one play: a recording holds many, and 64 are too many for training


def check_game(kind: type[Game], *, steps: int = 60, seed: int = 0) -> None:
    """Play a game under each of its policies and hold it to the contract of `Game`; ValueError for the first breach."""
    _check_facts(kind)
    _check_keys(kind)
    if kind.height % REDUCTION or kind.width % REDUCTION:
        raise ValueError(f"{kind.name} is {kind.height}x{kind.width}; both must be multiples of {REDUCTION}")
    if "random" not in kind.policies():
        raise ValueError(f"{kind.name} has policies {', '.join(kind.policies())}; one must be named 'random'")
    with kind() as game:
        for policy in kind.policies():
            _check_play(game, policy, steps, seed)


def main() -> None:
    """Check the adapter that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_envs.games.check", description=__doc__)
    parser.add_argument("game", help="a game's name, or your adapter as module:Class")
    try:
        kind = game_class(parser.parse_args().game)
        check_game(kind)
    except (ValueError, ImportError) as error:
        sys.exit(f"check: {error}")
    print(f"{kind.name}: {kind.width}x{kind.height} at {kind.fps} frames a second, {kind.actions}: all is well")


def _check_facts(kind: type[Game]) -> None:
    for fact in ("fps", "max_episode_steps"):
        if (value := getattr(kind, fact)) < 1:
            raise ValueError(f"{kind.name} has {fact} {value}; it must be at least 1")
    try:
        kind.facts()
    except PackageNotFoundError as error:
        seen = f"{kind.name}.packages has {error.name!r}, which is not installed"
        raise ValueError(f"{seen}; give distributions by the names that pip lists") from None
    table = kind.actions.table
    if table is not None and len(np.unique(table, axis=0)) < len(table):
        first = next(i for i, row in enumerate(table) if (table[:i] == row).all(axis=1).any())
        seen = f"{kind.name}'s table has {table[first].tolist()} for {kind.actions.label(first)}, as for another action"
        raise ValueError(f"{seen}: no world could tell them apart; give each a row of its own")


def _check_keys(kind: type[Game]) -> None:
    """Hold the keys to those that the player's window hears, where pygame is installed to tell."""
    if find_spec("pygame") is None:
        return
    from worldsim.window import key_name

    for channel, keys in kind.actions.keys.items():
        for key in keys:
            try:
                heard = key_name(key)
            except ValueError as error:
                raise ValueError(f"{kind.name}'s keys of {channel!r}: {error}") from None
            if heard != key:
                raise ValueError(f"{kind.name}'s keys of {channel!r}: {key!r} is heard as {heard!r}; name it so")
            if key == REWIND:
                raise ValueError(f"{kind.name}'s keys of {channel!r}: {key!r} takes frames back; give another")


def _check_rewards(game: Game, played: list[Step]) -> None:
    rewards = [reward for _, reward, _ in played[1:]]
    if not np.isfinite(rewards).all():
        raise ValueError(f"{game.name} gave a reward that is no finite number; mend reward()")
    if (count := len({*rewards})) > MOST_REWARDS:
        seen = f"{game.name} gave {count} different rewards in {len(rewards)} steps"
        raise ValueError(f"{seen}; a world's reward head picks one of a few: round them in reward()")


def _check_play(game: Game, policy: str, steps: int, seed: int) -> None:
    choose = game.policies()[policy](np.random.default_rng(seed))
    played, actions = [(game.reset(seed), 0.0, False)], []
    while len(actions) < steps and not played[-1][2]:
        actions.append(choose(game))
        played.append(game.step(actions[-1]))
    for frame, *_ in played:
        _check_frame(game, frame)
    _check_rewards(game, played)
    half = len(actions) // 2
    again = _go_on(game, [(game.reset(seed), 0.0, False)], actions[:half])
    saved = game.save()
    if not _same(_go_on(game, again, actions[half:]), played):
        raise ValueError(f"{game.name} does not repeat itself: the same seed and actions gave other frames or rewards")
    if not _same(_go_on(game, [(game.restore(saved), *played[half][1:])], actions[half:]), played[half:]):
        raise ValueError(f"{game.name} does not go on alike from a saved state; override save and restore")
    game.restore(saved)
    if not np.array_equal(game.last_frames(actions[half:], LAST), [frame for frame, *_ in played[half + 1 :]][-LAST:]):
        raise ValueError(f"{game.name} shows other frames in last_frames than in step; its own last_frames is wrong")


def _go_on(game: Game, shown: list[Step], actions: list[Any]) -> list[Step]:
    """What was shown, and what the game then answers until it ends."""
    shown = list(shown)
    for action in actions:
        if shown[-1][2]:
            break
        try:
            shown.append(game.step(action))
        except RuntimeError:  # it is over for the game: shorter than what it is compared with
            break
    return shown


def _check_frame(game: Game, frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.shape != (game.height, game.width, 3):
        seen = f"{frame.dtype} {frame.shape}"
        raise ValueError(f"{game.name} shows {seen}; a frame is uint8 ({game.height}, {game.width}, 3)")


def _same(one: list[Step], other: list[Step]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in pairs)


if __name__ == "__main__":
    main()
