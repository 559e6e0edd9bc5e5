"""One world held against its source game: what is measured, how much of it, and from which streams of chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from tqdm import tqdm

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import ceilings, control, gains, imagine, stability
from worldsim_training.battery import measure
from worldsim_training.battery.ledger import Figures, Ledger
from worldsim_training.collapse import BLOCK
from worldsim_training.episodes import SPLITS
from worldsim_training.heldout import HeldOut, Moment, record_heldout
from worldsim_training.report import strips

LEAST_REAL_SCORE = 0.75
"""The sign test is refused where the real game itself scores less."""
LEAST_ROLLOUT = 2 * BLOCK
"""Frames of a rollout whose first half is compared with its end."""
FEW = 4
"""Real rollouts at least that every third of the episodes gives, where it has so many episodes."""


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    episodes: int
    windows: int
    horizons: tuple[int, ...]
    """Steps ahead at which the free-running prediction is compared."""
    trials: int
    """States of the sign test."""
    rollouts: int = 50
    rollout_steps: int = 300
    real_rollouts: int = 24
    """At most so many real rollouts set the limits of collapse, and so many more check them."""
    episode_steps: int = 0
    """Cut every held-out episode after so many steps; 0: the game ends it."""
    least_steps: int = 0
    """More episodes are recorded than asked for until they hold so many steps."""
    branches: int = 8
    """Real games with other luck that are played on from each window."""
    save_every: int = 8
    """Steps between the real game's save states."""
    battery: measure.Extent | None = None
    """What of the battery is measured beside these; None: nothing."""
    drift_frames: tuple[int, ...] = (0, 100, 300, 1000)
    """Steps after which the report's drift strip shows a frame."""
    batch: int = 13
    """Worlds that are imagined together, eight times as many on a GPU; a CPU runs as many batches as it has threads."""


QUICK = Plan(
    episodes=12,
    least_steps=7000,
    windows=100,
    horizons=(1, 4, 16),
    trials=100,
    real_rollouts=8,
    drift_frames=(0, 100, 300),
    battery=measure.QUICK,
)
FULL = Plan(episodes=24, least_steps=14000, windows=512, horizons=(1, 4, 16, 32), trials=256, battery=measure.FULL)


@dataclass
class Evaluation:
    """The measurements of one world; the same seed gives the same figures on one build.

    `ledger` keeps finished parts. `world` is what another process may load; without it determinism is tried within
    this one. `teacher` is the same world with its many-step teacher, for the battery. Raises ValueError where the world
    and the game do not fit; instruments that fail on the real game are refused, and told so.
    """

    model: WorldModel
    game: Game
    plan: Plan
    split: str
    seed: int
    steps: int
    progress: bool = True
    ledger: Ledger = field(default_factory=Ledger)
    world: str | None = None
    teacher: WorldModel | None = None

    def __post_init__(self) -> None:
        check_fit(self.model, type(self.game), self.steps)

    def figures(self) -> Figures:
        """All figures, flat. One that has no meaning on what was seen is None."""
        self._open_streams()
        judge, checked = self._appointed  # every check of an instrument comes before the long work
        trials, real, unsigned = self._trials()
        moments = self.heldout.moments(
            self.plan.windows, past=self.model.info.window_frames, future=max(self.plan.horizons), rng=self._window_rng
        )
        ceiling = self.ledger.part("ceilings", lambda: self._ceilings(moments))
        with tqdm(total=_frames(self.plan, self.game), unit="frame", desc="imagine", disable=not self.progress) as bar:
            settings = self._settings(bar.update)
            parts = [
                self.ledger.part("gains", lambda: self._gains(moments, settings)),
                self.ledger.part("signs", lambda: self._signs(trials, real, settings)) if trials else unsigned,
                self.ledger.part("stability", lambda: self._stability(judge, settings)) if judge else {},
                self._battery(judge, settings),
            ]
        return {key: value for part in (*parts, ceiling, checked, self._told()) for key, value in part.items()}

    def strips(self) -> Figures:
        """Pictures for the report, as `report.strips` draws them, kept as a part of the ledger."""
        steps = self.plan.drift_frames
        total = strips.frames_painted(self.game, steps)
        with tqdm(total=total, unit="frame", desc="strips", disable=not self.progress) as bar:
            kit = (self.model, self.game, self.heldout, self._settings(bar.update), self.seed, steps)
            return self.ledger.part("strips", strips.Artist(*kit).figures)

    @cached_property
    def heldout(self) -> HeldOut:
        return _record(self.game, self.plan, split=self.split, seed=self.seed, progress=self.progress)

    def _open_streams(self) -> None:
        """Every stream of chance from its beginning, so that measuring again gives the same."""
        streams = np.random.SeedSequence([self.seed, SPLITS.index(self.split)]).spawn(5)
        self._judge_rng, self._trial_rng, self._window_rng, self._rollout_rng, self._luck_rng = map(
            np.random.default_rng, streams
        )

    @cached_property
    def _appointed(self) -> tuple[stability.Judge | None, Figures]:
        """The judge of long rollouts, or why there is none: then all else is measured without them."""
        try:
            self.plan = fitted(self.plan, self.heldout)
            past = self.model.info.window_frames
            return _appointed(self.game, self.heldout, self.plan, past, self._judge_rng)
        except ValueError as error:
            return None, {"refused_collapse": str(error)}

    def _trials(self) -> tuple[list[control.Trial], np.ndarray, Figures]:
        """The sign test's trials and how the real game moves in them; none, and why, where the game fails by it."""
        past = self.model.info.window_frames
        try:
            trials = control.choose_trials(self.game, self.heldout, self.plan.trials, past=past, rng=self._trial_rng)
            real = control.real_displacements(self.game, self.heldout, trials)
            _check_real_score(control.scores(real).mean())
        except ValueError as error:
            return [], np.empty((0, 2)), {"refused_sign_test": str(error)}
        return trials, real, {}

    def _ceilings(self, moments: Sequence[Moment]) -> Figures:
        return _ceilings(self.game, self.heldout, moments, self.plan, self._luck_rng, progress=self.progress)

    def _gains(self, moments: Sequence[Moment], settings: imagine.Settings) -> Figures:
        sizes = {"horizons": self.plan.horizons, "rng": self._window_rng, "settings": settings}
        return gains.measure_gains(self.model, self.heldout, moments, **sizes)

    def _signs(self, trials: Sequence[control.Trial], real: np.ndarray, settings: imagine.Settings) -> Figures:
        return control.measure_control(self.model, self.game, self.heldout, trials, real, self._trial_rng, settings)

    def _stability(self, judge: stability.Judge, settings: imagine.Settings) -> Figures:
        amount = {"rollouts": self.plan.rollouts, "length": self.plan.rollout_steps}
        return stability.measure_stability(
            self.model, judge, self.heldout, **amount, rng=self._rollout_rng, settings=settings
        )

    def _battery(self, judge: stability.Judge | None, settings: imagine.Settings) -> Figures:
        if self.plan.battery is None:
            return {}
        kit = (self.model, self.game, self.heldout, judge, self.ledger, settings)
        return measure.Battery(*kit, self.plan.battery, self.seed, self.world, self.teacher).figures()

    def _settings(self, progress: Callable[[int], object]) -> imagine.Settings:
        return settings_for(self.model, self.plan, self.steps, progress)

    def _told(self) -> Figures:
        """What was measured."""
        episodes = self.heldout.episodes
        return {
            "episodes": len(episodes),
            "episode_steps": sum(len(episode.actions) for episode in episodes),
            "heldout_sha256": _digest(self.heldout),
            "context_frames": self.model.info.window_frames,
            "steps": self.steps,
            "split": self.split,
            "seed": self.seed,
        }


def _frames(plan: Plan, game: Game) -> int:
    """Frames that a world paints, for the progress bar; the few of the episodes' ends are left out."""
    held = 2 * plan.trials * game.sign_test_steps
    own = plan.windows * max(plan.horizons) + held + plan.rollouts * plan.rollout_steps
    return own + (plan.battery.frames if plan.battery is not None else 0)


def _record(game: Game, plan: Plan, *, split: str, seed: int, progress: bool) -> HeldOut:
    most = plan.episode_steps or game.max_episode_steps
    with tqdm(total=plan.episodes * most, unit="step", desc="record", disable=not progress) as bar:
        numbers = {"split": split, "seed": seed, "episodes": plan.episodes, "max_steps": most}
        numbers |= {"least_steps": plan.least_steps}
        return record_heldout(game, **numbers, save_every=plan.save_every, progress=bar.update)


def fitted(plan: Plan, heldout: HeldOut) -> Plan:
    """The plan with rollouts no longer than a few episodes in every third of them are.

    ValueError where that is too short to judge by.
    """
    thirds = [sorted((len(heldout.episodes[i].frames) for i in third), reverse=True) for third in heldout.thirds()]
    frames = min(plan.rollout_steps, *(third[:FEW][-1] if third else 0 for third in thirds))
    if frames < LEAST_ROLLOUT:
        seen = f"held-out episodes give real rollouts of {frames} frames to judge by"
        raise ValueError(f"{seen}, {LEAST_ROLLOUT} are needed; the game ends sooner than this test can judge")
    return replace(plan, rollout_steps=frames)


def _appointed(
    game: Game, heldout: HeldOut, plan: Plan, past: int, rng: np.random.Generator
) -> tuple[stability.Judge, dict[str, int]]:
    """The collapse test, checked. Episodes are dealt into three: what the game looks like, the limits, the check; the
    checked judge then sees the other two thirds as well, as a world may begin anywhere in all three.

    past: frames that the world remembers, and so the length of an opening.
    """
    thirds = heldout.thirds()
    looks, widths, checks = ([*heldout.cut(third, plan.rollout_steps)] for third in thirds)
    episodes, *others = ([heldout.episodes[i].frames for i in third] for third in thirds)
    widths, checks = (_thinned(rollouts, plan.real_rollouts) for rollouts in (widths, checks))
    judge = stability.appoint_judge(game, looks, widths, opening_frames=past, episodes=episodes)
    wiser = judge.having_seen([*chain(*others)])
    tried = stability.check_judge(judge, checks, rng, wiser=wiser)  # what more is real must excuse no mutant
    return wiser, {"collapse_check_real_rollouts": len(checks), "collapse_check_mutants": tried}


def _ceilings(
    game: Game, heldout: HeldOut, moments: Sequence[Moment], plan: Plan, rng: np.random.Generator, *, progress: bool
) -> dict[str, float | int]:
    """What the real game gains with other luck; empty where its luck is not known."""
    heldout.resume(game, moments[0])
    if game.luck() is None:
        return {}
    work = len(moments) * (1 + plan.branches) * max(plan.horizons)
    with tqdm(total=work, unit="step", desc="re-roll", disable=not progress) as bar:
        amount = {"horizons": plan.horizons, "branches": plan.branches}
        return ceilings.measure_ceilings(game, heldout, moments, **amount, rng=rng, progress=bar.update)


def settings_for(model: WorldModel, plan: Plan, steps: int, progress: Callable[[int], object]) -> imagine.Settings:
    """How a world is imagined where it lies."""
    if model.device.type == "cpu":
        return imagine.Settings(steps, plan.batch, torch.get_num_threads(), progress)
    return imagine.Settings(steps, 8 * plan.batch, 1, progress)


def _thinned(items: list, count: int) -> list:
    return items[:: max(1, -(-len(items) // count))]


def check_fit(model: WorldModel, game: type[Game], steps: int) -> None:
    world, own = (model.info.height, model.info.width), (game.height, game.width)
    if world != own:
        raise ValueError(f"world {model.info.name} paints {world[1]}x{world[0]}; {game.name} shows {own[1]}x{own[0]}")
    if model.actions.to_json()["table"] != game.actions.to_json()["table"]:
        raise ValueError(f"world {model.info.name} and the game {game.name} number their actions differently")
    if steps not in model.info.step_choices:
        raise ValueError(f"steps={steps} is not a trained step count; use one of {model.info.step_choices}")


def _check_real_score(score: float) -> None:
    if score < LEAST_REAL_SCORE:
        raise ValueError(f"sign test refused: the real game scores {score:.2f} by it, below {LEAST_REAL_SCORE}")


def _digest(heldout: HeldOut) -> str:
    """SHA-256 of the frames and actions of all episodes: what two evaluations must share to be compared."""
    told = hashlib.sha256()
    for episode in heldout.episodes:
        told.update(np.ascontiguousarray(episode.frames))
        told.update(np.ascontiguousarray(episode.actions))
    return told.hexdigest()
