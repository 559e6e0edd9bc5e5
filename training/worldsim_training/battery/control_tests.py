"""Control by exact branches: the masked control score, counterfactuals, and how soon the opponent answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.futures import HOLD_STEPS, SAMPLES, Futures
from worldsim_training.battery.simulator import Played
from worldsim_training.collapse import sprite_track

APART_PIXELS = 1.0
"""Two branches have come apart where the sprite's places differ by more: a reader's error is about half of it."""
UNTOUCHED_LEVELS = 8
"""A pixel is the same in two pictures where no channel differs by more."""
ONSET_STEPS = (1, 2, 4, 8, 16)


def score_control(futures: Futures, played: Played, rng: np.random.Generator) -> dict[str, float]:
    """The masked control score C and its 95 % interval over episodes; see `metrics.control_score`."""
    shown, real = (each.frames[:, :, HOLD_STEPS - 1] for each in (played, futures.real))
    x = real[:, 0]
    sums = [metrics.mask_errors(other, x, futures.mask) for other in (shown[:, 0], shown[:, 1], real[:, 1])]
    values = 3 * futures.mask.sum(axis=(1, 2))
    low, high = metrics.bootstrap_interval(
        metrics.control_score, futures.episodes, *sums, values, rng=rng, samples=SAMPLES
    )
    return {
        "control_c": metrics.control_score(*sums, values),
        "control_c_low": low,
        "control_c_high": high,
        "control_c_states": len(x),
        "control_mask_share": float(futures.mask.mean()),
        "control_other_action_db": metrics.pooled_psnr(sums[2].sum() / values.sum()),
        "control_own_action_db": metrics.pooled_psnr(sums[0].sum() / values.sum()),
    }


def score_counterfactuals(game: Game, futures: Futures, played: Played) -> dict[str, float]:
    """How two branches from one state part, against how they part in the real game; each 1 for a perfect simulator.

    `counterfactual_displacement`: correlation of the distance between the player's places in the two branches, x and y
    together, after 4 steps. `counterfactual_untouched`: share of the pixels that no action changes by then which are
    the same in both branches. `counterfactual_onset`: share of states in which the player's branches part at the real
    step, give or take one.
    """
    ours, real = (tracks(game.player_xy, each.frames) for each in (played, futures.real))
    apart = [(one[:, 0] - one[:, 1])[:, HOLD_STEPS - 1].ravel() for one in (ours, real)]
    first, second = np.moveaxis(played.frames[:, :, HOLD_STEPS - 1].astype(np.int16), 1, 0)
    same = (np.abs(first - second) <= UNTOUCHED_LEVELS).all(axis=-1)
    onsets = [metrics.onset_steps(metrics.apart_by(one[:, 0], one[:, 1]), pixels=APART_PIXELS) for one in (ours, real)]
    return {
        "counterfactual_displacement": metrics.agreement(*apart),
        "counterfactual_untouched": float(same[~futures.mask].mean()),
        "counterfactual_onset": float((np.abs(onsets[0] - onsets[1]) <= 1).mean()),
    }


def score_onset(game: Game, futures: Futures, played: Played, rng: np.random.Generator) -> dict[str, float]:
    """Share of states in which the opponent's places in the two branches have parted by step 1, 2, 4, 8, 16.

    Read from frames, the world's and the real game's alike. `onset_error` is the greatest difference of the two curves.
    `onset_state_*` is the real curve from the game's own state, where it tells `opponent_x` or `opponent_y`.
    """
    steps = [h for h in ONSET_STEPS if h <= futures.actions.shape[2]]
    ours, real = (parting_steps(tracks(game.opponent_xy, each.frames)) for each in (played, futures.real))
    exact = [i for i, name in enumerate(game.state_names) if name.startswith("opponent_")]
    truth = parting_steps(futures.states[..., exact], pixels=0.0) if exact and futures.states is not None else None
    out = {}
    for h in steps:
        out[f"onset_{h}"], out[f"onset_real_{h}"] = (float((onset <= h).mean()) for onset in (ours, real))
        interval = metrics.bootstrap_interval(np.mean, futures.episodes, ours <= h, rng=rng, samples=SAMPLES)
        out[f"onset_{h}_low"], out[f"onset_{h}_high"] = interval
        if truth is not None:
            out[f"onset_state_{h}"] = float((truth <= h).mean())
    return out | {"onset_error": max(abs(out[f"onset_{h}"] - out[f"onset_real_{h}"]) for h in steps)}


def check_readers(game: Game, futures: Futures, role: str) -> None:
    """ValueError where the game's reader of a role, "player" or "opponent", is blind on the real frames themselves."""
    locate = {"player": game.player_xy, "opponent": game.opponent_xy}[role]
    seen = float((~np.isnan(tracks(locate, futures.real.frames[:, :, -1:])[..., 0])).mean())
    if seen < 0.9:
        raise ValueError(f"the {role} of {game.name} is read from {seen:.0%} of real frames only; it takes 90 %")


def tracks(locate: Callable, frames: np.ndarray) -> np.ndarray:
    """Places (..., 2) in pixels that a reader finds in frames (..., H, W, 3); NaN where it finds none."""
    flat = frames.reshape(-1, *frames.shape[-3:])
    return sprite_track(flat, locate).reshape(*frames.shape[:-3], 2)


def parting_steps(places: np.ndarray, *, pixels: float = APART_PIXELS) -> np.ndarray:
    """(n,) first step, from 1, at which two branches' places (n, 2, T, 2) are apart; T + 1 where they never are."""
    return metrics.onset_steps(metrics.apart_by(places[:, 0], places[:, 1]), pixels=pixels)
