"""Rewards that are to be seen: does a simulator pay what its own frames show?

The detector tells gain, loss or neither. By how much is not asked: digits are what a small network reads last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.fitting import initialise
from worldsim_training.battery.futures import SAMPLES, Futures
from worldsim_training.battery.outcome_tests import LEAST_EVENTS, REWARD_WITHIN
from worldsim_training.battery.simulator import Played
from worldsim_training.battery.traces import Trace

LEAST_REAL_F1 = 0.75
"""The instrument is refused where, on real held-out frames, the detector scores less."""
FIT_STEPS, BATCH, RATE, WIDTH = 600, 64, 1e-2, 16
NOISE = 0.03
"""Standard deviation of the noise on frames in [-1, 1] under which the detector learns: painted frames have some."""


class Somewhere(nn.Module):
    """Frames before and after a step (B, H, W, 3) uint8 -> logits (B, O): what is to be seen in any one place.

    The strongest answer of the whole picture counts, so few examples teach it: a hit is a hit wherever it lands. The
    place itself is an input, since a score stands where it stands.
    """

    def __init__(self, height: int, width: int, outputs: int) -> None:
        super().__init__()
        self.small = nn.PixelUnshuffle(2)
        self.look = nn.Sequential(
            nn.Conv2d(9 * 4 + 2, WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1),
        )
        self.tell = nn.Linear(2 * WIDTH, outputs)
        lines = torch.linspace(-1, 1, height // 2), torch.linspace(-1, 1, width // 2)
        self.register_buffer("places", torch.stack(torch.meshgrid(*lines, indexing="ij")))

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        seen = self.small(torch.cat([before, after, after - before], dim=1))
        places = self.places.expand(len(seen), -1, -1, -1)
        return self.tell(self.look(torch.cat([seen, places], dim=1)).amax(dim=(2, 3)))


@dataclass(frozen=True)
class Detector:
    """Frames -> gain (1), loss (-1) or neither (0) in every step between them."""

    net: Somewhere
    signs: np.ndarray
    """(O,) those that the real game has, rising."""
    prior: torch.Tensor
    """(O,) what is added to the logits: rare rewards were shown more often than they come."""

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Signs of the rewards (n, T) of frames (n, T+1, H, W, 3) uint8."""
        before, after = (each.reshape(-1, *frames.shape[2:]) for each in (frames[:, :-1], frames[:, 1:]))
        pairs = zip(torch.from_numpy(before).split(256), torch.from_numpy(after).split(256), strict=True)
        classes = torch.cat([(self.net(*map(_shown, pair)) + self.prior).argmax(dim=1) for pair in pairs])
        return self.signs[classes.numpy()].reshape(len(frames), -1)


def fit_detector(game: Game, traces: Sequence[Trace], *, seed: int, steps: int = FIT_STEPS) -> Detector:
    """Fit to real play. ValueError where it holds fewer than 10 rewards, or a reward of the same sign at every step."""
    rewards = np.sign(np.concatenate([one.rewards for one in traces]))
    signs, classes = np.unique(rewards, return_inverse=True)
    if np.count_nonzero(rewards) < LEAST_EVENTS or len(signs) < 2:
        paid = f"{np.count_nonzero(rewards)} times in {len(rewards)} steps"
        raise ValueError(f"{game.name} paid {paid}; to see a reward takes {LEAST_EVENTS} and steps without")
    before = torch.from_numpy(np.concatenate([one.frames[:-1] for one in traces]))
    after = torch.from_numpy(np.concatenate([one.frames[1:] for one in traces]))
    generator = torch.Generator().manual_seed(seed)
    net = Somewhere(game.height, game.width, len(signs))
    initialise(net, generator)
    _fit(net, before, after, torch.from_numpy(classes.reshape(-1)), steps, generator)
    shares = np.bincount(classes.reshape(-1)) / classes.size
    return Detector(net.eval(), signs, torch.from_numpy(np.log(shares * len(shares))).float())


def _fit(
    net: Somewhere,
    before: torch.Tensor,
    after: torch.Tensor,
    classes: torch.Tensor,
    steps: int,
    generator: torch.Generator,
) -> None:
    """Change the network to tell the class of a step (n,) between frames (n, H, W, 3), each class shown as often."""
    rows = [torch.nonzero(classes == kind).flatten() for kind in range(int(classes.max()) + 1)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        kinds = torch.randint(len(rows), (BATCH,), generator=generator).tolist()
        drawn = torch.stack([rows[k][torch.randint(len(rows[k]), (), generator=generator)] for k in kinds])
        pair = (_shown(frames[drawn]) for frames in (before, after))
        noisy = (frame + NOISE * torch.randn(frame.shape, generator=generator) for frame in pair)
        optimizer.zero_grad()
        F.cross_entropy(net(*noisy), classes[drawn]).backward()
        optimizer.step()
        schedule.step()


def check_detector(detector: Detector, futures: Futures) -> float:
    """F1 of the detector on real held-out frames, rewards at most a step off; ValueError below .75."""
    score = metrics.event_f1(_hits(futures.real.rewards[:, 0], _seen(detector, futures, futures.real)))
    if not score >= LEAST_REAL_F1:
        raise ValueError(f"the reward detector scores {score:.2f} on real frames; it takes {LEAST_REAL_F1}")
    return score


def score_seen_rewards(
    detector: Detector, real_f1: float, futures: Futures, played: Played, rng: np.random.Generator
) -> dict[str, float]:
    """F1 of the rewards that a simulator pays against those that the detector sees in its frames, over that on real.

    1 for a simulator whose payments fit its pictures as the real game's do, whatever else is wrong with them: against
    the real game's rewards `score_rewards` holds them.
    """
    hits = _hits(played.rewards[:, 0], _seen(detector, futures, played))
    low, high = metrics.bootstrap_interval(metrics.event_f1, futures.episodes, hits, rng=rng, samples=SAMPLES)
    ratios = (each / real_f1 for each in (metrics.event_f1(hits), low, high))
    names = ("reward_seen_ratio", "reward_seen_ratio_low", "reward_seen_ratio_high")
    return dict(zip(names, ratios, strict=True)) | {"reward_detector_real_f1": real_f1}


def _seen(detector: Detector, futures: Futures, played: Played) -> np.ndarray:
    return detector(np.concatenate([futures.past.frames[:, -1:], played.frames[:, 0]], axis=1))


def _hits(said: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Of payments and of signs that were seen, both (n, T)."""
    return metrics.event_hits(np.sign(said), seen, within=REWARD_WITHIN)


def _shown(frames: torch.Tensor) -> torch.Tensor:
    return frames.movedim(-1, 1).float() / 127.5 - 1
