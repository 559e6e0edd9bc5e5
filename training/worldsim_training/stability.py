"""The long-rollout test: does a world still look and behave like its game after hundreds of imagined frames?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import numpy as np

from worldsim.world_model import WorldModel, WorldState
from worldsim_envs.games import Game
from worldsim_envs.games.policies import HeldRandom
from worldsim_training import imagine, mutants
from worldsim_training.collapse import (
    REASONS,
    Limits,
    Locate,
    Reference,
    Signs,
    collapse_reasons,
    read_signs,
    sprite_track,
)
from worldsim_training.ends import compare_ends
from worldsim_training.heldout import HeldOut, Moment
from worldsim_training.watch import Watch

T = TypeVar("T")

MUTATED_ROLLOUTS = 2


@dataclass(frozen=True)
class Judge:
    """The collapse test of one game."""

    game: Game
    reference: Reference
    limits: Limits
    opening_frames: int
    """Frames at the beginning of a real rollout that count as its opening."""

    def signs(self, frames: np.ndarray, opening: np.ndarray) -> Signs:
        """Signs of one rollout (T, H, W, 3) uint8 that goes on from real frames (K, H, W, 3)."""
        return _signs(self.game, self.reference, frames, opening)

    def reasons(self, frames: np.ndarray) -> tuple[str, ...]:
        """Why one rollout that begins with its opening counts as collapsed; empty where it does not."""
        return collapse_reasons(self.signs(frames, frames[: self.opening_frames]), self.limits)

    def having_seen(self, episodes: Sequence[np.ndarray]) -> Judge:
        """The same judge once it has seen more real episodes: a world may begin in a scene that only they show.

        Real rollouts prove nothing to a judge that knows them: `check_judge` tries those on this one and the mutants on
        the wiser. The limits stay.
        """
        return replace(self, reference=self.reference.showing(episodes))


def appoint_judge(
    game: Game,
    looks: Sequence[np.ndarray],
    widths: Sequence[np.ndarray],
    *,
    opening_frames: int,
    episodes: Sequence[np.ndarray] = (),
) -> Judge:
    """The judge that real rollouts make: `looks`, and the whole `episodes` they are of, say what the game looks like,
    `widths` how far a real rollout strays.

    Neither may share an episode with the other, nor with the rollouts of `check_judge`. An opening is as long as a
    world's memory.
    """
    reference = Reference.from_real(looks, episodes=episodes)
    limits = Limits.from_real([_signs(game, reference, frames, frames[:opening_frames]) for frames in widths])
    return Judge(game, reference, limits, opening_frames)


def check_judge(
    judge: Judge, rollouts: Sequence[np.ndarray], rng: np.random.Generator, *, wiser: Judge | None = None
) -> int:
    """Try the judge on real rollouts and on mutants of the first two of them; returns the number of mutants.

    wiser: the same judge when it has seen more. It then tries the mutants: what it flags the judge does, too.
    ValueError where a real rollout counts as collapsed or a mutant does not: then neither may judge a world.
    """
    for frames in rollouts:
        signs = judge.signs(frames, frames[: judge.opening_frames])
        if reasons := collapse_reasons(signs, judge.limits):
            raise ValueError(f"collapse test refused: a real rollout is {' and '.join(reasons)} by it ({signs})")
    knowing, tried = wiser or judge, 0
    for frames in rollouts[:MUTATED_ROLLOUTS]:
        for name, (mutant, expected) in make_mutants(judge.game, frames, rng).items():
            tried += 1
            if not expected.intersection(reasons := knowing.reasons(mutant)):
                seen = " and ".join(reasons) or "sound"
                raise ValueError(f"collapse test refused: a real rollout that was {name} is {seen} by it")
    return tried


def make_mutants(
    game: Game, frames: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, frozenset[str]]]:
    """Broken copies of a real rollout that break halfway, and for each the signs of which one must show.

    A sprite that is mostly seen where it was erased makes none: it hardly left its place, so that nobody knows what is
    behind it.
    """
    half = len(frames) // 2
    erased = {}
    for name, locate in _sprites(game).items():
        mutant = mutants.erased(frames, half, sprite_track(frames, locate))
        if np.isnan(sprite_track(mutant[half:], locate)).mean() >= 0.5:
            erased[f"{name} erased"] = (mutant, frozenset({"vanished", "smeared"}))
    return {
        "frozen": (mutants.frozen(frames, half, rng), frozenset({"frozen"})),
        "blurred": (mutants.blurred(frames, half), frozenset({"smeared"})),
        "smeared": (mutants.smeared(frames, half), frozenset({"smeared", "vanished"})),
        "noisy": (mutants.noisy(frames, half, rng), frozenset({"noise"})),
        "saturated": (mutants.saturated(frames, half), frozenset({"saturated"})),
        "faded": (mutants.faded(frames, half), frozenset({"saturated"})),
        **erased,
    }


def held_actions(game: Game, count: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Random native actions, each held for 1 to 8 steps: (count, steps)."""
    players = [HeldRandom(rng) for _ in range(count)]
    return np.array([[player(game) for _ in range(steps)] for player in players])


def roll_out(
    model: WorldModel,
    heldout: HeldOut,
    moments: Sequence[Moment],
    actions: np.ndarray,
    play: Callable[[np.ndarray, WorldState, np.ndarray, imagine.Settings], Sequence[T]],
    *,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> list[T]:
    """What `play` answers for each of so many worlds, which begin at held-out moments, with seeds of their own.

    actions: native, (count, length). play: (the real frames (B, K, H, W, 3) that B worlds remember, their state, their
    actions (B, length), settings of the batch) -> one answer a world.
    """
    frames, past = heldout.context(moments, model.info.window_frames)
    seeds = rng.integers(2**31, size=len(moments))

    def work(part: slice, settings: imagine.Settings) -> Sequence[T]:
        state = imagine.begin(model, frames[part], past[part], seeds[part])
        return play(frames[part], state, actions[part], settings)

    return [*chain(*imagine.in_batches(len(moments), settings, work))]


def measure_stability(
    model: WorldModel,
    judge: Judge,
    heldout: HeldOut,
    *,
    rollouts: int,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> dict[str, float | int]:
    """Imagine rollouts under random held actions and judge each: counts of collapses (`collapsed_shown`: by what is
    painted up to an end), the state of their ends, and how often they end and what they pay beside random play of the
    real game."""

    def play(
        openings: np.ndarray, state: WorldState, actions: np.ndarray, settings: imagine.Settings
    ) -> list[tuple[Watch, Pay]]:
        played = imagine.play_outcomes(model, state, actions, settings)
        watched = [Watch(judge.signs, opening) for opening in openings]
        [*pool.map(Watch.see, watched, played.frames, played.ended)]
        pays = (Pay.of(*each) for each in zip(played.rewards, played.ended, strict=True))
        return [*zip(watched, pays, strict=True)]

    past = model.info.window_frames
    future = min(length, heldout.room(rollouts, past=past))  # what was recorded there is not compared with
    moments = heldout.moments(rollouts, past=past, future=max(future, 1), rng=rng)
    actions = held_actions(judge.game, rollouts, length, rng)
    with ThreadPoolExecutor() as pool:  # a GPU paints faster than one thread judges
        played = roll_out(model, heldout, moments, actions, play, rng=rng, settings=settings)
    watched, pays = zip(*played, strict=True)
    signs = [each for one in watched for each in one.signs]
    found = [collapse_reasons(each, judge.limits) for each in signs]
    counts = Counter(reason for reasons in found for reason in reasons)
    return {
        "collapsed": sum(map(bool, found)),
        "collapsed_shown": sum(bool(collapse_reasons(each, judge.limits)) for one in watched for each in one.shown),
        "rollouts": rollouts,
        "rollout_steps": length,
        **{f"collapsed_{name}": counts[name] for name in REASONS},
        "rollouts_ended": sum(each.ended for each in pays),
        **rates("rollout", pays),
        **rates("real_random", _real_pays(heldout)),
        **compare_ends([one.end for one in watched], judge.game, judge.reference, heldout, moments, actions, rng=rng),
        "nearest_real_db_min": min(sign.farthest_db for sign in signs),
        "still_steps_max": max(sign.still_steps for sign in signs),
        "stuck_steps_max": max(sign.stuck_steps for sign in signs),
        "missing_frames_max": max(sign.missing_frames for sign in signs),
    }


@dataclass(frozen=True)
class Pay:
    """What one rollout paid until its first end, or to its last step."""

    steps: int
    reward: float
    ended: bool

    @classmethod
    def of(cls, rewards: np.ndarray, ended: np.ndarray) -> Pay:
        """Of a rollout with rewards (T,) and ends (T,) bool, which may go on after an end."""
        steps = int(ended.argmax()) + 1 if ended.any() else len(ended)
        return cls(steps, float(np.nansum(rewards[:steps])), bool(ended.any()))


def rates(label: str, pays: Sequence[Pay]) -> dict[str, float]:
    """Ends and reward of 1,000 steps before an end; nothing where no step was played."""
    steps = sum(each.steps for each in pays)
    told = {"ends": sum(each.ended for each in pays), "reward": sum(each.reward for each in pays)}
    return {f"{label}_{name}_per_1000": 1000 * value / steps for name, value in told.items()} if steps else {}


def _real_pays(heldout: HeldOut) -> list[Pay]:
    """Whole episodes of random play; whether a game ends at its own limit or is cut off makes no difference here."""
    episodes = [each for each, policy in zip(heldout.episodes, heldout.policies, strict=True) if policy == "random"]
    return [Pay(len(each.actions), float(each.rewards.sum()), bool(each.ended)) for each in episodes]


def _signs(game: Game, reference: Reference, frames: np.ndarray, opening: np.ndarray) -> Signs:
    return read_signs(frames, opening, reference, player=game.player_xy, sprites=[*_sprites(game).values()])


def _sprites(game: Game) -> dict[str, Locate]:
    """Who is drawn, and where in a frame."""
    sprites = {"player": game.player_xy} if game.draws_player else {}
    return sprites | ({"opponent": game.opponent_xy} if game.reads_opponent() else {})
