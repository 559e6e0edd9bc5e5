"""The long-rollout test: does a world still look and behave like its game after hundreds of imagined frames?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from worldsim.world_model import WorldModel, WorldState
from worldsim_envs.games import Game
from worldsim_envs.games.policies import HeldRandom
from worldsim_training import imagine, metrics, mutants
from worldsim_training.collapse import (
    BLOCK,
    REASONS,
    Limits,
    Locate,
    Reference,
    Signs,
    collapse_reasons,
    read_signs,
    sprite_track,
)
from worldsim_training.heldout import HeldOut, Moment

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
    real_end: dict[str, Any]
    """`end_statistics` of real rollouts."""
    scene_ends: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """The same of the rollouts of single held-out episodes, by number; where an episode is too short, there is none."""

    def signs(self, frames: np.ndarray, opening: np.ndarray) -> Signs:
        """Signs of one rollout (T, H, W, 3) uint8 that goes on from real frames (K, H, W, 3)."""
        return _signs(self.game, self.reference, frames, opening)

    def reasons(self, frames: np.ndarray) -> tuple[str, ...]:
        """Why one rollout that begins with its opening counts as collapsed; empty where it does not."""
        return collapse_reasons(self.signs(frames, frames[: self.opening_frames]), self.limits)

    def having_seen(self, episodes: Sequence[np.ndarray]) -> Judge:
        """The same judge once it has seen more real episodes: a world may begin in a scene that only they show.

        Real rollouts prove nothing to a judge that knows them: `check_judge` tries those on this one and the mutants on
        the wiser. Limits and real ends stay.
        """
        return replace(self, reference=self.reference.showing(episodes))

    def against_real(self, ends: Sequence[np.ndarray], moments: Sequence[Moment]) -> dict[str, float]:
        """The last frames of rollouts from these moments against real ones: motion against all of them, what hangs on
        the scene against those of the same episodes."""
        end, real = end_statistics(ends, self.reference), self.real_end
        scenes = [self.scene_ends.get(moment.episode, real) for moment in moments]
        alike = {name: np.mean([scene[name] for scene in scenes], axis=0) for name in real}
        return {
            "end_motion_ratio": end["motion"] / real["motion"],
            "end_sharpness_ratio": float(end["sharpness"] / alike["sharpness"]),
            "end_saturation_ratio": float(end["saturation"] / alike["saturation"]),
            "end_colour_emd": float(metrics.colour_distance(end["colours"], alike["colours"])),
        }


def appoint_judge(
    game: Game,
    looks: Sequence[np.ndarray],
    widths: Sequence[np.ndarray],
    ends: Sequence[np.ndarray],
    *,
    opening_frames: int,
    episodes: Sequence[np.ndarray] = (),
    scenes: Mapping[int, Sequence[np.ndarray]] | None = None,
) -> Judge:
    """The judge that real rollouts make: `looks`, and the whole `episodes` they are of, say what the game looks like,
    `widths` how far a real rollout strays.

    Neither may share an episode with the other, nor with the rollouts of `check_judge`. The ends of `ends`, best played
    by the policy that plays in the world, are what the ends of imagined rollouts are compared with; where the scene
    decides, those of `scenes`, the rollouts of each held-out episode. An opening is as long as a world's memory.
    """
    reference = Reference.from_real(looks, episodes=episodes)
    limits = Limits.from_real([_signs(game, reference, frames, frames[:opening_frames]) for frames in widths])
    of_scenes = {i: end_statistics(each, reference) for i, each in (scenes or {}).items() if len(each)}
    return Judge(game, reference, limits, opening_frames, end_statistics(ends, reference), of_scenes)


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


def end_statistics(rollouts: Sequence[np.ndarray], reference: Reference) -> dict[str, Any]:
    """Motion, sharpness (on moving pixels), saturation and mean colour histogram of the last 64 frames of rollouts."""
    ends = np.stack([frames[-BLOCK:] for frames in rollouts])
    return {
        "motion": float(metrics.motion(ends).mean()),
        "sharpness": float(metrics.sharpness(ends, reference.moving).mean()),
        "saturation": float(metrics.saturation(ends).mean()),
        "colours": metrics.colour_cumulative(ends.reshape(-1, *ends.shape[2:])).mean(axis=0),
    }


def held_actions(game: Game, count: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Random native actions, each held for 1 to 8 steps: (count, steps)."""
    players = [HeldRandom(rng) for _ in range(count)]
    return np.array([[player(game) for _ in range(steps)] for player in players])


def roll_out(
    model: WorldModel,
    game: Game,
    heldout: HeldOut,
    moments: Sequence[Moment],
    play: Callable[[np.ndarray, WorldState, np.ndarray, imagine.Settings], Sequence[T]],
    *,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> list[T]:
    """What `play` answers for each of so many worlds, which begin at held-out moments, under random held actions.

    play: (the real frames (B, K, H, W, 3) that B worlds remember, their state, their actions (B, length), settings of
    the batch) -> one answer a world.
    """
    frames, past = heldout.context(moments, model.info.window_frames)
    actions = held_actions(game, len(moments), length, rng)
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
    """Imagine rollouts under random held actions and judge each: counts of collapses, the state of their ends, and how
    often they end and what they pay beside random play of the real game."""

    def play(
        openings: np.ndarray, state: WorldState, actions: np.ndarray, settings: imagine.Settings
    ) -> list[tuple[Signs, np.ndarray, Pay]]:
        played = imagine.play_outcomes(model, state, actions, settings)
        return [
            (judge.signs(frames, opening), frames[-BLOCK:].copy(), Pay.of(rewards, ended))
            for frames, opening, rewards, ended in zip(
                played.frames, openings, played.rewards, played.ended, strict=True
            )
        ]

    past = model.info.window_frames
    future = min(length, heldout.room(rollouts, past=past))  # what was recorded there is not compared with
    moments = heldout.moments(rollouts, past=past, future=max(future, 1), rng=rng)
    played = roll_out(model, judge.game, heldout, moments, play, length=length, rng=rng, settings=settings)
    signs, ends, pays = zip(*played, strict=True)
    found = [collapse_reasons(sign, judge.limits) for sign in signs]
    counts = Counter(reason for reasons in found for reason in reasons)
    return {
        "collapsed": sum(map(bool, found)),
        "rollouts": rollouts,
        "rollout_steps": length,
        **{f"collapsed_{name}": counts[name] for name in REASONS},
        "rollouts_with_predicted_end": sum(each.ended for each in pays),
        **rates("rollout", pays),
        **rates("real_random", _real_pays(heldout)),
        **judge.against_real(ends, moments),
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
