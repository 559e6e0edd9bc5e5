"""The report's film strips: real frames above imagined ones, one row for each action, and frames of a long rollout."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import imagine, stability
from worldsim_training.battery.futures import saved_moments
from worldsim_training.battery.ledger import Figures
from worldsim_training.battery.simulator import Past, RealSimulator, WorldSimulator
from worldsim_training.heldout import HeldOut, Moment

FILM_STEPS = (0, 1, 2, 4, 8, 12, 16)
FILM_WINDOWS = 2
ACTION_STEPS = (2, 4, 8)
CANDIDATES = 8
"""States among which the one is taken where the real game's answers to its actions differ most."""
DRIFT_ROLLOUTS = 2
NAMES = ("film", "actions", "drift")


@dataclass(frozen=True)
class Strip:
    """Frames (rows, columns, H, W, 3) uint8 with a word for each row and column, and what they show."""

    rows: Sequence[str]
    columns: Sequence[str]
    frames: np.ndarray
    note: str

    def figures(self, name: str) -> Figures:
        """The strip as flat strings, the frames as one PNG in base64."""
        sheet = np.concatenate(np.concatenate(self.frames, axis=1), axis=1)
        words = {"rows": "\n".join(self.rows), "columns": "\n".join(self.columns), "note": self.note}
        return {f"strip_{name}": png(sheet), **{f"strip_{name}_{key}": value for key, value in words.items()}}

    @classmethod
    def of(cls, name: str, figures: Mapping) -> Strip:
        """The strip that `figures` wrote."""
        rows, columns = (figures[f"strip_{name}_{key}"].split("\n") for key in ("rows", "columns"))
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(figures[f"strip_{name}"]))))
        height, width = sheet.shape[0] // len(rows), sheet.shape[1] // len(columns)
        frames = sheet.reshape(len(rows), height, len(columns), width, 3).swapaxes(1, 2)
        return cls(rows, columns, frames, figures[f"strip_{name}_note"])


@dataclass(frozen=True)
class Artist:
    """Draws the strips of one world, each from a stream of chance of its own."""

    model: WorldModel
    game: Game
    heldout: HeldOut
    settings: imagine.Settings
    seed: int
    drift_steps: Sequence[int]
    """Steps after which the drift strip shows a frame, rising."""

    def figures(self) -> Figures:
        """All strips; under `refused_strip_...` why one cannot be drawn."""
        out: Figures = {}
        for name, draw in zip(NAMES, (self.film, self.actions, self.drift), strict=True):
            out |= _drawn(name, draw)
        return out

    def film(self) -> Strip:
        """What was recorded above what is imagined under the same actions."""
        rng, last = self._rng(0), FILM_STEPS[-1]
        moments = self.heldout.moments(FILM_WINDOWS, past=self._past, future=last, rng=rng)
        past, (real, actions) = Past.of(self.heldout, moments, self._past), self.heldout.future(moments, last)
        played = self._world.play(past, actions[:, None], rng.integers(2**31, size=len(moments))).frames[:, 0]
        at = np.array(FILM_STEPS)
        pairs = [np.concatenate([past.frames[:, -1:], each], axis=1)[:, at] for each in (real, played)]
        rows = [f"{who} {i + 1}" for i in range(len(moments)) for who in ("real", "imagined")]
        frames = np.stack(pairs, axis=1).reshape(len(rows), len(at), *real.shape[2:])
        return Strip(
            rows, _steps(FILM_STEPS), frames, "The recorded actions; the frame at step 0 is real in both rows."
        )

    def actions(self) -> Strip:
        """Every action, held from one state with the same chance, beside what the real game shows."""
        rng, natives = self._rng(1), self.game.natives()
        held = np.repeat(natives[None, :, None], ACTION_STEPS[-1], axis=2)
        past, real = self._telling_state(held, rng)
        imagined = self._world.play(past, held, rng.integers(2**31, size=1)).frames[0]
        at = np.array(ACTION_STEPS) - 1
        columns = [f"{who} +{h}" for who in ("imagined", "real") for h in ACTION_STEPS]
        note = (
            "Each action held from one real state, with the same noise. Of eight states, the one where the real game's"
            " answers differ most."
        )
        names = [self.game.actions.label(native) for native in natives]
        return Strip(names, columns, np.concatenate([imagined[:, at], real[:, at]], axis=1), note)

    def drift(self) -> Strip:
        """Frames of long rollouts under random held actions."""
        rng = self._rng(2)
        moments = self.heldout.moments(DRIFT_ROLLOUTS, past=self._past, future=1, rng=rng)
        past = Past.of(self.heldout, moments, self._past)
        actions = stability.held_actions(self.game, len(moments), self.drift_steps[-1], rng)
        state = imagine.begin(self.model, past.frames, past.actions, rng.integers(2**31, size=len(moments)))
        shown = [past.frames[:, -1]]
        for first, last in zip(self.drift_steps[:-1], self.drift_steps[1:], strict=True):
            painted, _ = imagine.play(self.model, state, actions[:, first:last], self.settings)
            shown.append(painted[:, -1])
        rows = [f"rollout {i + 1}" for i in range(len(moments))]
        note = "Random actions, each held for 1 to 8 steps; the frame at step 0 is real."
        return Strip(rows, _steps(self.drift_steps), np.stack(shown, axis=1), note)

    @property
    def _past(self) -> int:
        return self.model.info.window_frames

    @property
    def _world(self) -> WorldSimulator:
        return WorldSimulator(self.model, self.settings)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 7, number])

    def _telling_state(self, held: np.ndarray, rng: np.random.Generator) -> tuple[Past, np.ndarray]:
        """A state, and what the real game answers to the actions (1, N, T[, A]) there: (N, T, H, W, 3)."""
        length = held.shape[2]
        moments = saved_moments(self.heldout, CANDIDATES, past=self._past, future=length, rng=rng)
        _, best = max(self._spreads(moments, held))
        past = Past.of(self.heldout, [moments[best]], self._past)
        return past, self._real(past, held)

    def _spreads(self, moments: Sequence[Moment], held: np.ndarray) -> Iterator[tuple[float, int]]:
        for i, moment in enumerate(moments):
            last = self._real(Past.of(self.heldout, [moment], self._past), held)[:, -1]
            yield float(last.std(axis=0).mean()), i

    def _real(self, past: Past, held: np.ndarray) -> np.ndarray:
        return RealSimulator(self.game, self.heldout).play(past, held, np.zeros(1, int)).frames[0]


def frames_painted(game: Game, drift_steps: Sequence[int]) -> int:
    """Frames that a world paints for all strips."""
    untold = game.actions.table is None and not game.choices
    actions = 0 if untold else len(game.natives())
    return FILM_WINDOWS * FILM_STEPS[-1] + actions * ACTION_STEPS[-1] + DRIFT_ROLLOUTS * drift_steps[-1]


def png(picture: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as a PNG in base64."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode("ascii")


def read(path: Path, report: Mapping) -> Figures:
    """Strips kept by an evaluation of the very same weights; ValueError where the file holds others, or none."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        figures, drawn = dict(entry["figures"]), entry["identity"]["world_manifest_sha256"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"'{path}' holds no strips; worldsim eval --report writes such a file") from None
    if drawn != report.get("world_manifest_sha256"):
        wanted = str(report.get("world_manifest_sha256"))[:12]
        raise ValueError(f"'{path}' shows a world of manifest {drawn[:12]}..., the figures are of {wanted}...")
    return figures


def _drawn(name: str, draw: Callable[[], Strip]) -> Figures:
    try:
        return draw().figures(name)
    except ValueError as error:
        return {f"refused_strip_{name}": str(error)}


def _steps(steps: Sequence[int]) -> list[str]:
    return [f"step {step}" for step in steps]
