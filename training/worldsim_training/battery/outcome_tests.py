"""Rewards and ends, against those of the real game under the same actions."""

from __future__ import annotations

import numpy as np

from worldsim_training import metrics
from worldsim_training.battery.futures import SAMPLES, Futures
from worldsim_training.battery.simulator import Played

REWARD_WITHIN, END_WITHIN = 1, 2
LEAST_EVENTS = 10


def score_rewards(futures: Futures, played: Played, rng: np.random.Generator) -> dict[str, float]:
    """F1 of rewards: an event of the same value at most a step away, with its 95 % interval over episodes.

    The floor pays the commonest reward at every step. ValueError where the real game paid fewer than 10 times.
    """
    truth, said = futures.real.rewards[:, 0], played.rewards[:, 0]
    paid = truth[truth != 0]
    if len(paid) < LEAST_EVENTS:
        raise ValueError(f"the real game paid {len(paid)} times in {truth.size} steps; F1 takes {LEAST_EVENTS}")
    values, counts = np.unique(paid, return_counts=True)
    always = np.full_like(truth, values[counts.argmax()])
    hits = metrics.event_hits(said, truth, within=REWARD_WITHIN)
    low, high = metrics.bootstrap_interval(metrics.event_f1, futures.episodes, hits, rng=rng, samples=SAMPLES)
    return {
        "reward_f1": metrics.event_f1(hits),
        "reward_f1_low": low,
        "reward_f1_high": high,
        "reward_f1_always": metrics.event_f1(metrics.event_hits(always, truth, within=REWARD_WITHIN)),
        "reward_events": len(paid),
    }


def score_false_ends(futures: Futures, played: Played, rng: np.random.Generator) -> dict[str, float | int]:
    """Ends said where the real game goes on, a window counted once, per 2000 steps."""
    real, said = futures.real.ended[:, 0], played.ended[:, 0]
    false = said.any(axis=1) & ~real.any(axis=1)
    rates = 2000 * false / said.shape[1]
    low, high = metrics.bootstrap_interval(np.mean, futures.episodes, rates, rng=rng, samples=SAMPLES)
    return {
        "false_ends": int(false.sum()),
        "false_ends_steps": said.size,
        "false_ends_per_2000": float(rates.mean()),
        "false_ends_per_2000_low": low,
        "false_ends_per_2000_high": high,
    }


def score_ends(futures: Futures, played: Played, rng: np.random.Generator) -> dict[str, float | int]:
    """Share of the game's ends that are said at most two steps from the true one; futures of `ending_futures`."""
    real, said = (each.ended[:, 0] for each in (futures.real, played))
    first = [np.where(each.any(axis=1), each.argmax(axis=1), -99) for each in (real, said)]
    hit = np.abs(first[0] - first[1]) <= END_WITHIN
    low, high = metrics.bootstrap_interval(np.mean, futures.episodes, hit, rng=rng, samples=SAMPLES)
    return {"end_recall": float(hit.mean()), "end_recall_low": low, "end_recall_high": high, "end_events": len(real)}
