"""The trials of the battery: held-out pasts, the actions to play from them, and what the real game then shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from worldsim_envs.games import Game
from worldsim_training.battery.simulator import Past, Played, RealSimulator, Simulator
from worldsim_training.heldout import HeldOut, Moment

SAMPLES = 300
"""Resamplings of an interval."""

HOLD_STEPS = 4
"""Steps after which the masked control score compares pictures."""


@dataclass(frozen=True)
class Futures:
    """n pasts, N futures of T steps of each, as the real game plays them with its own luck."""

    past: Past
    actions: np.ndarray
    """(n, N, T[, A]) native actions."""
    seeds: np.ndarray
    """(n,) the chance that a simulator gets."""
    real: Played
    states: np.ndarray | None
    """(n, N, T, S) the game's own state after each step."""
    mask: np.ndarray | None = None
    """(n, H, W) bool: pixels that differ between the game's actions once each is held for 4 steps."""

    @property
    def episodes(self) -> np.ndarray:
        """(n,) the episode that each past is from."""
        return np.array([moment.episode for moment in self.past.moments])

    def play(self, simulator: Simulator) -> Played:
        """The same pasts and actions in a simulator."""
        return simulator.play(self.past, self.actions, self.seeds)


def recorded_futures(
    game: Game, heldout: HeldOut, moments: Sequence[Moment], steps: int, *, past: int, rng: np.random.Generator
) -> Futures:
    """What was recorded after each moment, its actions played again: N = 1."""
    actions = heldout.future(moments, steps)[1][:, None]
    return _played(game, heldout, moments, actions, past, rng)


def ending_futures(
    game: Game, heldout: HeldOut, *, before: int, after: int, past: int, rng: np.random.Generator
) -> Futures:
    """The end of every episode that the game ended, from `before` steps ahead of it; ValueError where none did.

    After the end the last action is held for `after` steps.
    """
    over = [i for i, one in enumerate(heldout.episodes) if one.ended and len(one.actions) >= before + past]
    if not over:
        raise ValueError(f"none of {len(heldout.episodes)} held-out episodes was played to the end of {game.name}")
    moments = [Moment(i, len(heldout.episodes[i].actions) - before) for i in over]
    tails = [heldout.episodes[i].actions[-before:] for i in over]
    actions = np.stack([np.concatenate([tail, np.repeat(tail[-1:], after, axis=0)]) for tail in tails])
    return _played(game, heldout, moments, actions[:, None], past, rng)


def random_futures(
    game: Game, heldout: HeldOut, count: int, steps: int, *, past: int, rng: np.random.Generator
) -> Futures:
    """Uniformly random actions, none held, so that only the frames tell which was played: N = 1."""
    moments = saved_moments(heldout, count, past=past, future=steps, rng=rng)
    natives = game.natives()
    actions = _under_conditions(game, heldout, moments, natives[rng.integers(len(natives), size=(count, 1, steps))])
    return _played(game, heldout, moments, actions, past, rng)


def branch_futures(
    game: Game, heldout: HeldOut, count: int, steps: int, *, past: int, rng: np.random.Generator
) -> Futures:
    """Two actions from each state, each held throughout, that do not belong to the same effect class: N = 2.

    ValueError where in none of the states the choice of action changes a pixel.
    """
    futures = pair_futures(game, heldout, count, steps, past=past, rng=rng)
    mask = np.stack([_answering_pixels(game, heldout, moment) for moment in futures.past.moments])
    if not mask.any():
        raise ValueError(f"in {count} states no action of {game.name} changed a pixel within {HOLD_STEPS} steps")
    return replace(futures, mask=mask)


def pair_futures(
    game: Game, heldout: HeldOut, count: int, steps: int, *, past: int, rng: np.random.Generator
) -> Futures:
    """The pairs of `branch_futures`, without the pixels that answer."""
    moments = saved_moments(heldout, count, past=past, future=steps, rng=rng)
    pairs = np.stack([_two_actions(game, rng) for _ in range(count)])
    actions = _under_conditions(game, heldout, moments, np.repeat(pairs[:, :, None], steps, axis=2))
    return _played(game, heldout, moments, actions, past, rng)


def saved_moments(heldout: HeldOut, count: int, *, past: int, future: int, rng: np.random.Generator) -> list[Moment]:
    """Random moments at which the game's state was kept, as evenly from all episodes as they allow.

    ValueError where there are fewer.
    """
    rooms = [
        rng.permutation([frame for frame in saved if past - 1 <= frame <= len(episode.actions) - future])
        for saved, episode in zip(heldout.saved, heldout.episodes, strict=True)
    ]
    turns = sorted((turn, i, int(frame)) for i, room in enumerate(rooms) for turn, frame in enumerate(room))
    if len(turns) < count:
        raise ValueError(f"{len(turns)} held-out states have {past} frames before and {future} after; needed: {count}")
    return [Moment(i, frame) for _, i, frame in turns[:count]]


def _under_conditions(game: Game, heldout: HeldOut, moments: Sequence[Moment], actions: np.ndarray) -> np.ndarray:
    """The actions (n, N, T[, A]) with the conditions that held at each moment: an NPC's temper is no one's choice."""
    if not game.actions.conditions:
        return actions
    last = [heldout.episodes[moment.episode].actions[moment.frame - 1] for moment in moments]
    held = np.stack([game.actions.condition_vector(game.actions.conditions_of(vector)) for vector in last])
    return actions + held[:, None, None].astype(actions.dtype)


def _played(
    game: Game, heldout: HeldOut, moments: Sequence[Moment], actions: np.ndarray, past: int, rng: np.random.Generator
) -> Futures:
    known, seeds = Past.of(heldout, moments, past), rng.integers(2**31, size=len(moments))
    return Futures(known, actions, seeds, *RealSimulator(game, heldout).play_with_states(known, actions, seeds))


def _two_actions(game: Game, rng: np.random.Generator) -> np.ndarray:
    """Two native actions, in random order, that some effect class tells apart; any two where none is known."""
    natives = game.natives()
    count = len(natives)
    kinds = np.array(list(game.effects.values()) or [range(count)])
    first = int(rng.integers(count))
    others = np.flatnonzero((kinds != kinds[:, [first]]).any(axis=0))
    return natives[[first, int(rng.choice(others))]]


def _answering_pixels(game: Game, heldout: HeldOut, moment: Moment) -> np.ndarray:
    heldout.resume(game, moment)
    start, pictures = game.save(), []
    for action in game.natives():
        game.restore(start)
        for _ in range(HOLD_STEPS):
            frame, _, ended = game.step(action)
            if ended:
                break
        pictures.append(frame)
    return (np.ptp(np.stack(pictures), axis=0) > 0).any(axis=-1)
