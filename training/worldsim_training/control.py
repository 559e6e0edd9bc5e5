"""The sign test: opposite commands from one state must move the player opposite ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from worldsim.action import ActionSpec
from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import imagine, metrics
from worldsim_training.heldout import HeldOut, Moment

OPPOSITES = (("left", "right", 0), ("up", "down", 1), ("steer-", "steer+", 0))
"""Command that lowers a coordinate, command that raises it, axis of the coordinate in (x, y). A command is a button's
channel, or a channel of kind axis with the way that it is pushed."""

WALL_SHARE, OPPONENT_SHARE = 1 / 12, 1 / 4
"""A state counts as open at this share of the frame's width from the walls, and from the opponent."""


@dataclass(frozen=True)
class Trial:
    """One state from which both commands are held."""

    moment: Moment
    commands: tuple[str, str, int]


def opposites(game: Game) -> list[tuple[str, str, int]]:
    """The pairs of opposite commands that a game has; ValueError where it has none."""
    pushes = {f"{channel.name}{way}" for channel in game.actions.channels if channel.kind == "axis" for way in "+-"}
    names = pushes | {channel.name for channel in game.actions.channels}
    pairs = [pair for pair in OPPOSITES if names.issuperset(pair[:2])]
    if not pairs:
        raise ValueError(
            f"{game.name} has no opposite commands; the sign test needs left and right, up and down, or an axis steer"
        )
    return pairs


def choose_trials(game: Game, heldout: HeldOut, count: int, *, past: int, rng: np.random.Generator) -> list[Trial]:
    """Saved states, the pairs of commands in turn, where nothing is in the way of either move.

    Open means away from the walls (the extremes of the player's positions over all saved frames) along the command's
    axis, and away from the opponent, where the game has one. That is decided before anything is played, from where both
    stand, and a player that is stunned is left out (`Game.is_obeyed`). ValueError where there are too few such states.
    """
    moments = [
        Moment(i, frame)
        for i, saved in enumerate(heldout.saved)
        for frame in saved
        if past - 1 <= frame <= len(heldout.episodes[i].actions) - game.sign_test_steps
    ]
    player, opponent = (
        np.array([locate(heldout.episodes[m.episode].frames[m.frame]) or (np.nan, np.nan) for m in moments])
        for locate in (game.player_xy, game.opponent_xy)
    )
    if np.isnan(player).all():
        raise ValueError(f"{game.name} reads no player off its frames; the sign test needs Game.player_xy")
    walls = np.nanquantile(player, [0.005, 0.995], axis=0)
    clear = np.abs(player - opponent).max(axis=1) >= OPPONENT_SHARE * game.width
    clear |= np.isnan(opponent).all()  # a game without an opponent that is read
    pairs, trials = opposites(game), []
    for turn, pair in enumerate(pairs):
        room = np.minimum(player[:, pair[2]] - walls[0, pair[2]], walls[1, pair[2]] - player[:, pair[2]])
        open_states = (moments[i] for i in rng.permutation(np.flatnonzero(clear & (room >= WALL_SHARE * game.width))))
        needed = len(range(turn, count, len(pairs)))
        chosen = list(islice((moment for moment in open_states if _is_obeyed(game, heldout, moment)), needed))
        if len(chosen) < needed:
            found = f"{len(chosen)} of {len(moments)} held-out states"
            raise ValueError(f"{found} leave room for {pair[0]} and {pair[1]}; the sign test needs {needed}")
        trials += [Trial(moment, pair) for moment in chosen]
    return trials


def real_displacements(game: Game, heldout: HeldOut, trials: Sequence[Trial]) -> np.ndarray:
    """Net displacement in pixels along the command's axis in the real game, (n, 2): under each of both commands."""
    out = np.full((len(trials), 2), np.nan)
    for i, trial in enumerate(trials):
        state = heldout.saved[trial.moment.episode][trial.moment.frame]
        for j, command in enumerate(trial.commands[:2]):
            start = game.restore(state)
            frame = _hold(game, game.actions.decode(command_vector(game.actions, command)))
            out[i, j] = displacement(game, start, frame, trial.commands[2])
    return out


def imagined_displacements(
    model: WorldModel,
    game: Game,
    heldout: HeldOut,
    trials: Sequence[Trial],
    seeds: np.ndarray,
    settings: imagine.Settings,
) -> np.ndarray:
    """The same in the world, (n, 2): both branches from the same past with the same noise, read the same way."""
    frames, actions = heldout.context([trial.moment for trial in trials], model.info.window_frames)

    def play(part: slice, settings: imagine.Settings) -> np.ndarray:
        state = imagine.begin(model, frames[part], actions[part], seeds[part])
        moved = np.full((len(trials[part]), 2), np.nan)
        for j in range(2):
            vectors = [command_vector(model.actions, trial.commands[j]) for trial in trials[part]]
            held = np.repeat([[model.actions.decode(vector)] for vector in vectors], game.sign_test_steps, axis=1)
            painted, _ = imagine.play(model, state.clone(), held, settings)
            for i, trial in enumerate(trials[part]):
                moved[i, j] = displacement(game, frames[part][i, -1], painted[i, -1], trial.commands[2])
        return moved

    return np.concatenate(imagine.in_batches(len(trials), settings, play))


def measure_control(
    model: WorldModel,
    game: Game,
    heldout: HeldOut,
    trials: Sequence[Trial],
    real: np.ndarray,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> dict[str, float | int]:
    """The world's score as a share of the real game's own from the same states, with its 95 % interval.

    real: (n, 2), what `real_displacements` gave for the trials.
    """
    seeds = rng.integers(2**31, size=len(trials))
    imagined = imagined_displacements(model, game, heldout, trials, seeds, settings)
    own, reference = scores(imagined), scores(real)
    episodes = np.array([trial.moment.episode for trial in trials])
    low, high = metrics.bootstrap_interval(_share, episodes, own, reference, rng=rng)
    return {
        "sign_test_share": _share(own, reference),
        "sign_test_share_low": low,
        "sign_test_share_high": high,
        "sign_test_score": float(own.mean()),
        "sign_test_real_score": float(reference.mean()),
        "sign_test_states": len(trials),
        "sign_test_hold_steps": game.sign_test_steps,
        "sign_test_unseen": int(np.isnan(imagined).any(axis=1).sum()),
        "sign_test_apart_pixels": _mean_apart(imagined),
        "sign_test_real_apart_pixels": _mean_apart(real),
    }


def command_vector(spec: ActionSpec, command: str) -> np.ndarray:
    """Channel vector (A,) of one of `OPPOSITES`."""
    push = {"+": 1.0, "-": -1.0}.get(command[-1])
    return spec.vector(**{command: 1.0}) if push is None else spec.vector(**{command[:-1]: push})


def displacement(game: Game, before: np.ndarray, after: np.ndarray, axis: int) -> float:
    """How far the player moved between two frames along x (0) or y (1), in pixels; NaN where it cannot be seen."""
    positions = game.player_xy(before), game.player_xy(after)
    return float("nan") if None in positions else positions[1][axis] - positions[0][axis]


def scores(displacements: np.ndarray) -> np.ndarray:
    """Sign-test credit of each trial, (n,) bool."""
    return metrics.sign_credit(displacements[:, 0], displacements[:, 1])


def _is_obeyed(game: Game, heldout: HeldOut, moment: Moment) -> bool:
    """Whether the player can be moved at a saved state."""
    game.restore(heldout.saved[moment.episode][moment.frame])
    return game.is_obeyed()


def _hold(game: Game, action) -> np.ndarray:
    for _ in range(game.sign_test_steps):
        frame, _, ended = game.step(action)
        if ended:
            break
    return frame


def _share(own: np.ndarray, reference: np.ndarray) -> float:
    return float(own.mean() / reference.mean()) if reference.any() else float("nan")


def _mean_apart(displacements: np.ndarray) -> float:
    """Mean pixels between the ends of the two branches, where both are seen; 0 where they never are."""
    apart = displacements[:, 1] - displacements[:, 0]
    seen = apart[~np.isnan(apart)]
    return float(seen.mean()) if len(seen) else 0.0
