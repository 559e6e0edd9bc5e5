"""The battery on a world: its parts one after another, each kept when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import imagine, stability
from worldsim_training.battery.determinism import measure_determinism
from worldsim_training.battery.drift import measure_drift
from worldsim_training.battery.feature_tests import played_looks, score_ends
from worldsim_training.battery.ledger import Figures, Ledger
from worldsim_training.battery.simulator import RealSimulator, WorldSimulator
from worldsim_training.battery.students import losses
from worldsim_training.battery.tryouts import INSTRUMENTS, Bench, Size, set_up
from worldsim_training.collapse import BLOCK
from worldsim_training.heldout import HeldOut


@dataclass(frozen=True)
class Extent:
    """How much of the battery is measured."""

    instruments: Sequence[str] = tuple(INSTRUMENTS)
    size: Size = field(default_factory=Size)
    step_choices: Sequence[int] = ()
    """Numbers of denoising steps that are compared with each other, on the smaller `step_size`."""
    step_size: Size = Size(branches=96, random=64, windows=64, window_steps=16, state_steps=(16,))
    step_instruments: Sequence[str] = ("control", "actions", "rewards", "pictures")
    drifts: Sequence[tuple[int, int]] = ()
    """(rollouts, steps) of each drift test."""
    deterministic_frames: int = 0

    @property
    def frames(self) -> int:
        """Frames that a world paints for it, without the ends of episodes and the test of determinism."""
        compared = len(self.step_choices) * self.step_size.frames(self.step_instruments)
        return self.size.frames(self.instruments) + compared + sum(n * length for n, length in self.drifts)


DRIFT_STEPS, LONG_DRIFT = 1000, (24, 10_000)
QUICK = Extent(instruments=("control",), size=Size(branches=60, steps=4))
FULL = Extent(step_choices=(1, 2, 4), drifts=((24, DRIFT_STEPS),), deterministic_frames=500)


def drifting(extent: Extent, rollouts: int | None, *, long: bool) -> Extent:
    """The same with so many rollouts of 1,000 steps, None: as many as it has; and, if long, some of 10,000."""
    drifts = extent.drifts if rollouts is None else ((rollouts, DRIFT_STEPS),)
    return replace(extent, drifts=(*drifts, *((LONG_DRIFT,) if long else ())))


@dataclass
class Battery:
    """The parts of one world's battery. Each draws from a stream of its own, so none depends on which ran before."""

    model: WorldModel
    game: Game
    heldout: HeldOut
    judge: stability.Judge | None
    """Of long rollouts; None: without the drift tests."""
    ledger: Ledger
    settings: imagine.Settings
    extent: Extent
    seed: int
    world: str | None = None
    """What to load for the determinism test in another process."""
    teacher: WorldModel | None = None
    """The same world painted by its many-step teacher, to compare the step counts with."""

    def figures(self) -> Figures:
        """All figures: of the world; `luck_...`, of the real game with other luck; `steps_{n}_...`, by step count.

        `teacher_...`: of the teacher, where there is one, and `student_...` what is lost against it: `students.losses`.
        """
        out = self._benched() | self._compared()
        for i, (rollouts, length) in enumerate(self.extent.drifts if self.judge else ()):
            out |= self.ledger.part(f"drift_{length}", lambda i=i, n=rollouts, t=length: self._drift(i, n, t))
        if frames := self.extent.deterministic_frames:
            amount = {"frames": frames, "steps": self.settings.steps, "seed": self.seed, "world": self.world}
            out |= self.ledger.part("determinism", lambda: measure_determinism(self.model, **amount))
        return out

    @cached_property
    def bench(self) -> Bench:
        return self._set_up(self.extent.size, self.extent.instruments)

    @cached_property
    def step_bench(self) -> Bench:
        return self._set_up(self.extent.step_size, self.extent.step_instruments)

    def _benched(self) -> Figures:
        out: Figures = {}
        for kind in dict.fromkeys(INSTRUMENTS[name] for name in self.extent.instruments):
            names = [name for name in self.extent.instruments if INSTRUMENTS[name] == kind]
            out |= self.ledger.part(kind, lambda names=names: self.bench.score(self._world(), names))
            if self._has_luck:
                out |= self.ledger.part(f"luck_{kind}", lambda names=names: self._lucky(names))
        return out

    def _compared(self) -> Figures:
        out: Figures = {}
        for steps in self.extent.step_choices:
            out |= self.ledger.part(f"steps_{steps}", lambda n=steps: self._on_steps(f"steps_{n}", self._world(n)))
        if self.teacher is None:
            return out
        teacher = WorldSimulator(self.teacher, self.settings)
        out |= self.ledger.part("teacher", lambda: self._on_steps("teacher", teacher))
        return out | losses(out, self.extent.step_choices, self.settings.steps)

    def _on_steps(self, name: str, simulator: WorldSimulator) -> Figures:
        figures = self.step_bench.score(simulator, self.extent.step_instruments)
        return {f"{name}_{key}": value for key, value in figures.items()}

    def _lucky(self, names: Sequence[str]) -> Figures:
        """The ceiling of a simulator with dice of its own; without what it shares with the world's figures."""
        figures = self.bench.score(RealSimulator(self.game, self.heldout, other_luck=True), names)
        shared = (
            *("refused_", "probe_real_", "onset_real_", "onset_state_", "action_f1_real_", "action_ceiling_"),
            *("fd_floor", "reward_detector_", "opponent_real_", "opponent_commonest", "opponent_habits_floor"),
        )
        return {f"luck_{key}": value for key, value in figures.items() if not key.startswith(shared)}

    def _drift(self, number: int, rollouts: int, length: int) -> Figures:
        rng = np.random.default_rng([self.seed, 6, number])
        refused: Figures = {}

        def score(ends: np.ndarray) -> Figures:
            try:
                return self._end_features(ends)
            except ValueError as error:
                refused["refused_end_features"] = str(error)
                return {}

        amount = {"rollouts": rollouts, "length": length, "score": score}
        return measure_drift(self.model, self.judge, self.heldout, **amount, rng=rng, settings=self.settings) | refused

    def _end_features(self, ends: np.ndarray) -> Figures:
        """How far the features of these frames are from those of real ones under random actions."""
        if "features" not in self.extent.instruments:
            return {}
        if self.bench.looks is None:
            raise ValueError(self.bench.refused["features"])
        played = [i for i, policy in enumerate(self.heldout.policies) if policy == "random"]
        return score_ends(played_looks(self.bench.looks, [*self.heldout.cut(played, BLOCK)], len(ends)), ends)

    def _set_up(self, size: Size, names: Sequence[str]) -> Bench:
        past = self.model.info.window_frames
        return set_up(self.game, self.heldout, size, past=past, seed=self.seed, names=names)

    def _world(self, steps: int | None = None) -> WorldSimulator:
        return WorldSimulator(self.model, replace(self.settings, steps=steps or self.settings.steps))

    @cached_property
    def _has_luck(self) -> bool:
        self.game.restore(next(iter(self.heldout.saved[0].values())))
        return self.game.luck() is not None
