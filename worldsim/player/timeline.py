"""The history of one round as it was lived: actions, frames and rewards, without the futures that were rewound."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np


@dataclass
class Timeline:
    """N actions and N+1 frames since the round began; `actions[t]` takes frame t to frame t+1."""

    seed: int
    shape: tuple[int, ...]
    """(H, W, 3) of a frame."""
    packed: list[bytes]
    """The frames, each compressed: a half-hour round takes tens of megabytes."""
    actions: list[Any] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """Denoising steps of each painted frame."""
    rewards: list[float] = field(default_factory=list)
    over: bool = False
    """Whether the round ended with its last frame, or was cut there by its time limit."""
    ended: bool = False
    """Whether the game itself ended it."""
    past: Mapping[str, Any] | None = None
    """The reset options `frames` and `actions` that the round began from; None where the seed drew them."""
    began: Mapping[str, str] = field(default_factory=dict)
    """Group -> value of the conditions that held at the beginning."""
    holds: list[Mapping[str, str]] = field(default_factory=list)
    """What held when each action was taken."""

    @classmethod
    def of(
        cls, seed: int, frame: np.ndarray, past: Mapping[str, Any] | None = None, began: Mapping[str, str] | None = None
    ) -> Timeline:
        """A round that begins with this frame (H, W, 3) uint8, after that past, while those conditions hold."""
        return cls(seed, frame.shape, [_pack(frame)], past=past, began=began or {})

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def score(self) -> float:
        """Sum of all rewards."""
        return sum(self.rewards)

    @property
    def changes(self) -> list[tuple[int, Mapping[str, str]]]:
        """Where other conditions hold than before: index of the action that is taken under them, and what holds."""
        before = [self.began, *self.holds]
        return [(index, now) for index, now in enumerate(self.holds) if now != before[index]]

    def add(
        self,
        action: Any,
        steps: int,
        frame: np.ndarray,
        reward: float,
        *,
        over: bool = False,
        ended: bool = False,
        holds: Mapping[str, str] | None = None,
    ) -> None:
        """Append one frame (H, W, 3) uint8, the action that led to it, its reward and whether it is the last.

        ended: whether the game itself makes it the last, not a time limit.
        holds: the conditions under which the action was taken.
        """
        self.packed.append(_pack(frame))
        self.actions.append(action)
        self.steps.append(steps)
        self.rewards.append(reward)
        self.over, self.ended = over, ended
        self.holds.append(holds or {})

    def frame(self, index: int) -> np.ndarray:
        """Frame (H, W, 3) uint8; 0 is the reset's."""
        return np.frombuffer(zlib.decompress(self.packed[index]), np.uint8).reshape(self.shape)

    def frames(self, first: int = 0) -> Iterator[np.ndarray]:
        """All frames from one on."""
        return (self.frame(index) for index in range(first, len(self.packed)))

    def cut(self, length: int) -> None:
        """Forget everything after the first `length` actions, of which there are more."""
        self.over = self.ended = False
        del self.packed[length + 1 :], self.actions[length:], self.steps[length:], self.rewards[length:]
        del self.holds[length:]

    def copy(self) -> Timeline:
        """An independent copy."""
        lists = {name: list(vars(self)[name]) for name in ("packed", "actions", "steps", "rewards", "holds")}
        return replace(self, **lists)

    def save(self, path: Path) -> None:
        """Write one npz file."""
        names = ("seed", "actions", "steps", "rewards", "over", "ended")
        told = {name: np.asarray(vars(self)[name]) for name in names}
        past = {f"past_{name}": value for name, value in (self.past or {}).items()}
        conditions = json.dumps({"began": dict(self.began), "holds": [dict(each) for each in self.holds]})
        np.savez_compressed(path, frames=np.stack(list(self.frames())), conditions=conditions, **told, **past)

    @classmethod
    def load(cls, path: Path) -> Timeline:
        """What `save` wrote; ValueError in one line where the file is none."""
        try:
            with path.open("rb") as file, np.load(file) as stored:
                frames, lists = stored["frames"], [stored[name] for name in ("actions", "steps", "rewards")]
                seed, over = int(stored["seed"]), bool(stored["over"])
                ended = bool(stored["ended"]) if "ended" in stored else over  # files of before did not tell
                conditions = json.loads(str(stored["conditions"]))
                past = {name: stored[f"past_{name}"] for name in ("frames", "actions") if f"past_{name}" in stored}
        except (KeyError, ValueError, EOFError, zlib.error, BadZipFile) as error:
            raise ValueError(f"'{path}' is no round's history ({error}); save the game again") from None
        actions, steps, rewards = (each.tolist() for each in lists)
        actions = [np.asarray(action, lists[0].dtype) for action in actions]
        packed = [_pack(frame) for frame in frames]
        ends = {"over": over, "ended": ended}
        return cls(seed, frames.shape[1:], packed, actions, steps, rewards, **ends, past=past or None, **conditions)


def _pack(frame: np.ndarray) -> bytes:
    return zlib.compress(np.ascontiguousarray(frame).tobytes(), 1)
