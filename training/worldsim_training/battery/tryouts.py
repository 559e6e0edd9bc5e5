"""The short instruments of one game: fitted once, tried on the real game, then put to any simulator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from worldsim_envs.games import Game
from worldsim_training.battery import (
    control_tests,
    feature_tests,
    opponent_tests,
    outcome_tests,
    picture_tests,
    probes,
    recovery,
    seen_rewards,
)
from worldsim_training.battery.bars import measured_by
from worldsim_training.battery.futures import (
    Futures,
    branch_futures,
    ending_futures,
    random_futures,
    recorded_futures,
)
from worldsim_training.battery.simulator import Played, Simulator
from worldsim_training.battery.traces import Trace, instrument_traces
from worldsim_training.heldout import HeldOut

Figures = dict[str, float | int | str]
Score = Callable[[Futures, Played, np.random.Generator], Figures]

INSTRUMENTS = {
    "control": "branches",
    "counterfactuals": "branches",
    "onset": "branches",
    "opponent": "windows",
    "states": "windows",
    "features": "windows",
    "actions": "random",
    "rewards": "windows",
    "seen_rewards": "windows",
    "false_ends": "windows",
    "pictures": "windows",
    "ends": "endings",
}
"""Every short instrument, and what it makes a simulator play."""

END_BEFORE, END_AFTER = 12, 4


@dataclass(frozen=True)
class Size:
    """How much the short instruments measure."""

    branches: int = 300
    """States from which two actions are played."""
    random: int = 128
    """Windows of random actions, for action recovery."""
    windows: int = 256
    """Windows of recorded actions, for states, rewards, ends and pictures."""
    steps: int = 16
    """Length of the branches and of the random windows."""
    window_steps: int = 64
    state_steps: tuple[int, ...] = (16, 64)
    """Steps ahead at which the state is probed, and pictures are compared."""
    traces: int = 32
    """Real traces of either kind on which the instruments are fitted."""
    probe_steps: int = probes.FIT_STEPS
    detector_steps: int = seen_rewards.FIT_STEPS
    ceiling_states: int = 60
    """States that give the ceiling of action recovery."""

    def frames(self, names: Sequence[str]) -> int:
        """Frames that a simulator plays for the instruments named, without the ends of episodes."""
        each = {
            "branches": 2 * self.branches * self.steps,
            "random": self.random * self.steps,
            "windows": self.windows * self.window_steps,
            "endings": 0,
        }
        return sum(each[kind] for kind in {INSTRUMENTS[name] for name in names})


@dataclass
class Bench:
    """The instruments of one game that passed on the real game, and why the others did not."""

    futures: dict[str, Futures] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    looks: feature_tests.Looks | None = None
    """What the features of real frames look like, where that instrument was appointed."""

    def score(self, simulator: Simulator, names: Sequence[str] = tuple(INSTRUMENTS)) -> Figures:
        """Figures of a simulator by the instruments named; under `refused_...` why one of them gives none."""
        out: Figures = {f"refused_{name}": self.refused[name] for name in names if name in self.refused}
        for kind in dict.fromkeys(INSTRUMENTS[name] for name in names if name in self.scores):
            played = self.futures[kind].play(simulator)
            for name in (name for name in names if name in self.scores and INSTRUMENTS[name] == kind):
                out |= self._figures(name, played)
        return out

    def appoint(self, name: str, score: Callable[[], Score]) -> None:
        """Take an instrument in, if its futures could be played and it gives figures for the real game itself."""
        try:
            if (kind := INSTRUMENTS[name]) not in self.futures:
                raise ValueError(self.refused[kind])
            self.scores[name] = score()
            _check_defined(name, self._figures(name, self.futures[kind].real))
        except ValueError as error:
            self.scores.pop(name, None)
            self.refused[name] = str(error)

    def _figures(self, name: str, played: Played) -> Figures:
        # Each starts its own stream, so that a figure does not depend on which others are asked for.
        return self.scores[name](self.futures[INSTRUMENTS[name]], played, np.random.default_rng(self.seed))


def _check_defined(name: str, figures: Figures) -> None:
    """ValueError where none of an instrument's figures that have a bar has a meaning on the real game itself."""
    barred = {key: value for key, value in figures.items() if measured_by(key) == name}
    if barred and all(isinstance(value, float) and math.isnan(value) for value in barred.values()):
        raise ValueError(f"{', '.join(barred)} has no meaning on the real game's own frames")


def set_up(
    game: Game, heldout: HeldOut, size: Size, *, past: int, seed: int, names: Sequence[str] = tuple(INSTRUMENTS)
) -> Bench:
    """The instruments named of a game. The same seed gives the same figures, on one build."""
    bench = Bench(seed=seed)
    for kind in dict.fromkeys(INSTRUMENTS[name] for name in names):
        rng = np.random.default_rng([seed, 4, sorted(set(INSTRUMENTS.values())).index(kind)])
        try:
            bench.futures[kind] = _played(kind, game, heldout, size, past, rng)
        except ValueError as error:
            bench.refused[kind] = str(error)
    kit = _Kit(game, heldout, size, bench, seed)
    for name in names:
        bench.appoint(name, lambda name=name: kit.score(name))
    return bench


def _played(kind: str, game: Game, heldout: HeldOut, size: Size, past: int, rng: np.random.Generator) -> Futures:
    if kind == "branches":
        return branch_futures(game, heldout, size.branches, size.steps, past=past, rng=rng)
    if kind == "random":
        return random_futures(game, heldout, size.random, size.steps, past=past, rng=rng)
    if kind == "windows":
        moments = heldout.moments(size.windows, past=past, future=size.window_steps, rng=rng)
        return recorded_futures(game, heldout, moments, size.window_steps, past=past, rng=rng)
    return ending_futures(game, heldout, before=END_BEFORE, after=END_AFTER, past=past, rng=rng)


@dataclass
class _Kit:
    """What the instruments are set up from; ValueError where one cannot be in this game."""

    game: Game
    heldout: HeldOut
    size: Size
    bench: Bench
    seed: int

    @property
    def futures(self) -> dict[str, Futures]:
        return self.bench.futures

    @cached_property
    def traces(self) -> tuple[list[Trace], list[Trace]]:
        return instrument_traces(self.game, self.size.traces, self.seed)

    @cached_property
    def probe(self) -> probes.Probe:
        return probes.fit_probe(self.game, sum(self.traces, []), seed=self.seed, steps=self.size.probe_steps)

    def score(self, name: str) -> Score:
        """How one instrument scores."""
        fitted = {
            "actions": self._recovery,
            "states": self._states,
            "features": self._features,
            "seen_rewards": self._seen_rewards,
            "opponent": self._opponent,
        }
        if name in fitted:
            return fitted[name]()
        if name in ("counterfactuals", "onset"):
            role = "player" if name == "counterfactuals" else "opponent"
            control_tests.check_readers(self.game, self.futures["branches"], role)
        game, horizons = self.game, (1, *self.size.state_steps)
        return {
            "control": control_tests.score_control,
            "counterfactuals": lambda futures, shown, rng: control_tests.score_counterfactuals(game, futures, shown),
            "onset": lambda futures, shown, rng: control_tests.score_onset(game, futures, shown, rng),
            "rewards": outcome_tests.score_rewards,
            "false_ends": outcome_tests.score_false_ends,
            "pictures": lambda futures, shown, rng: picture_tests.score_pictures(futures, shown, horizons),
            "ends": outcome_tests.score_ends,
        }[name]

    def _states(self) -> Score:
        probe, at = self.probe, self.size.state_steps
        fits = probes.real_fit(probe, self.futures["windows"])
        return lambda futures, shown, rng: probes.score_probes(probe, fits, futures, shown, at, rng)

    def _features(self) -> Score:
        feature_tests.check_amount(self.futures["windows"])  # before the probe is fitted
        looks = feature_tests.real_looks(self.probe, self.futures["windows"])
        self.bench.looks = looks
        return lambda futures, shown, rng: feature_tests.score_features(looks, futures, shown)

    def _seen_rewards(self) -> Score:
        steps = self.size.detector_steps
        detector = seen_rewards.fit_detector(self.game, sum(self.traces, []), seed=self.seed, steps=steps)
        real = seen_rewards.check_detector(detector, self.futures["windows"])
        return lambda futures, shown, rng: seen_rewards.score_seen_rewards(detector, real, futures, shown, rng)

    def _opponent(self) -> Score:
        for role in ("player", "opponent"):
            control_tests.check_readers(self.game, self.futures["windows"], role)
        locate = self._everyone()
        predictor = opponent_tests.fit_predictor(locate, sum(self.traces, []), seed=self.seed)
        real = opponent_tests.moves_in(locate, self.futures["windows"].real.frames[:, 0])
        told = opponent_tests.check_predictor(predictor, real)
        score = opponent_tests.score_opponent
        return lambda futures, shown, rng: score(predictor, locate, told, real, futures, shown, rng)

    def _everyone(self) -> opponent_tests.Locate:
        """Player and opponent as the game's readers find them, and the other places that the probe reads well."""
        readers = (self.game.player_xy, self.game.opponent_xy)
        others = None
        if self.game.state_names:
            with suppress(ValueError):
                fits = probes.real_fit(self.probe, self.futures["windows"])
                others = probes.locator(self.probe, fits, lambda name: not name.startswith(("player_", "opponent_")))

        def locate(frames: np.ndarray) -> np.ndarray:
            places = [control_tests.tracks(reader, frames) for reader in readers]
            return np.concatenate([*places, *([others(frames)] if others else [])], axis=-1)

        return locate

    def _recovery(self) -> Score:
        mine, rng = self.futures["random"], np.random.default_rng([self.seed, 5])
        recoverer = recovery.fit_recoverer(self.game, self._player(), self.traces[0], seed=self.seed)
        moments = mine.past.moments[: self.size.ceiling_states]
        ceilings = recovery.recovery_ceilings(self.game, self.heldout, moments, rng)
        recovery.check_recovery(recovery.score_recovery(recoverer, mine, mine.real, rng), ceilings)
        told = {f"action_ceiling_{effect}": value for effect, value in ceilings.items()}
        return lambda futures, shown, rng: recovery.score_recovery(recoverer, futures, shown, rng) | told

    def _player(self) -> recovery.Locate:
        """The state probe where it reads the player well, which is finer; else the game's own reader."""
        found = None
        if self.game.state_names:
            with suppress(ValueError):
                fits = probes.real_fit(self.probe, self.futures["random"])
                found = probes.locator(self.probe, fits, lambda name: name.startswith("player_"))
        return found or (lambda frames: control_tests.tracks(self.game.player_xy, frames))


def remembering(bench: Bench, simulator: Simulator) -> Simulator:
    """The simulator, sparing it what the bench already knows of the real game: for faults that only spoil the show."""
    return _Known({id(futures.past): futures for futures in bench.futures.values()}, simulator)


@dataclass(frozen=True)
class _Known:
    known: dict[int, Futures]
    simulator: Simulator

    def play(self, past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        futures = self.known.get(id(past))
        if futures is not None and np.array_equal(futures.actions, actions):
            return replace(futures.real)
        return self.simulator.play(past, actions, seeds)
