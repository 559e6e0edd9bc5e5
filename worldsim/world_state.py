"""The state of worlds in play, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.noise import NoiseStream

SCHEMA = 3
HEADER = "worldsim.state"
"""Key of the JSON description in the file's own header."""


@dataclass
class WorldState:
    """Everything that changes while B worlds are played; a clone of it is a save state."""

    cache: KVCache
    noise: NoiseStream
    past: Tensor
    """(B, lag, 3, H, W) uint8, the frames that were on the screen, the present one last: the heads' memory."""
    step_count: int = 0
    painted: Tensor | None = None
    """The frame whose last call has left its keys and values in the cache, until it is committed."""

    @property
    def last(self) -> Tensor:
        """(B, 3, H, W) uint8, the frame now on the screen."""
        return self.past[:, -1]

    def show(self, frame: Tensor) -> None:
        """Change the state: `frame` (B, 3, H, W) uint8 is on the screen, a step later."""
        self.past = torch.cat((self.past[:, 1:], frame[:, None]), dim=1)
        self.step_count += 1

    def clone(self) -> WorldState:
        """An independent copy that continues exactly as this one would."""
        copied = self.select(range(len(self.noise)))
        copied.painted = self.painted
        return copied

    def with_noise(self, seed: int) -> WorldState:
        """An independent copy of one world whose noise begins at that seed."""
        noise = NoiseStream.of([seed], self.past.device)
        return WorldState(self.cache.clone(), noise, self.past.clone(), self.step_count)

    def select(self, worlds: Sequence[int]) -> WorldState:
        """An independent copy of these worlds, in this order; the same one may be named twice."""
        cache, noise = self.cache.select(worlds), self.noise.select(worlds)
        return WorldState(cache, noise, self.past[list(worlds)], self.step_count)

    def put(self, worlds: Sequence[int], state: WorldState) -> None:
        """Change these worlds into copies of those of `state`, one each; the others keep their bytes.

        ValueError in one line where `state` remembers another number or size of frames.
        """
        seen, wanted = (tuple(each.past.shape[1:]) for each in (state, self))
        if seen != wanted:
            raise ValueError(f"this state's past is {seen}, here it is {wanted}; put a state of this very world model")
        self.cache.put(worlds, state.cache)
        self.past[list(worlds)] = state.past
        self.noise.put(worlds, state.noise)
        self.painted = None

    @classmethod
    def join(cls, states: Sequence[WorldState]) -> WorldState:
        """Copies of all worlds of the given states as one batch; the step count is the first one's."""
        cache = KVCache.join([state.cache for state in states])
        noise = NoiseStream.join([state.noise for state in states])
        return cls(cache, noise, torch.cat([state.past for state in states]), states[0].step_count)

    def to(self, device: torch.device | str) -> WorldState:
        """An independent copy on that device."""
        copied = self.clone()
        copied.cache, copied.noise, copied.past = (
            each.to(device) for each in (copied.cache, copied.noise, copied.past)
        )
        return copied

    def save(self, path: str | Path, *, checkpoint: str, facts: Mapping | None = None) -> None:
        """Write one safetensors file, without a frame that waits for its commit.

        checkpoint: the world's `fingerprint`; facts: JSON data to keep beside it. OSError in one line where nothing
        can be written.
        """
        tensors = {f"cache.{name}": tensor for name, tensor in self.cache.remembered().items()}
        tensors["past"] = self.past
        tensors["noise.seeds"], tensors["noise.used"] = self.noise.seeds, self.noise.used
        header = {"schema": SCHEMA, "checkpoint": checkpoint, "step_count": self.step_count, "facts": dict(facts or {})}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, path, metadata={HEADER: json.dumps(header)})
        except SafetensorError as error:  # a full disk, say
            raise OSError(f"state file '{path}' cannot be written ({error}); save elsewhere") from None

    @classmethod
    def load(cls, path: str | Path) -> tuple[WorldState, str, dict]:
        """What `save` wrote, on the CPU: state, checkpoint, facts. ValueError in one line where the file is none."""
        header, tensors = _read(Path(path))
        if header.get("schema") != SCHEMA:
            raise ValueError(f"state file '{path}' has schema {header.get('schema')!r}; this worldsim reads {SCHEMA}")
        try:
            stored = {name.removeprefix("cache."): tensors[name] for name in tensors if name.startswith("cache.")}
            noise = _noise(tensors)
            state = cls(KVCache.of(stored), noise, tensors["past"], int(header["step_count"]))
            return state, str(header["checkpoint"]), dict(header["facts"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"state file '{path}' is damaged ({error!r}); save the state again") from None


def check_same_form(state: WorldState, right: WorldState) -> None:
    """ValueError in one line unless both hold one and the same kind of world: sizes and types of every tensor."""
    theirs, ours = state.cache.tensors() | {"past": state.past}, right.cache.tensors() | {"past": right.past}
    if set(theirs) != set(ours):
        raise ValueError("this state is of another network; load one that was saved in this world")
    for name, tensor in theirs.items():
        if tensor.shape != ours[name].shape or tensor.dtype != ours[name].dtype:
            seen, wanted = (f"{tuple(each.shape)} {each.dtype}" for each in (tensor, ours[name]))
            raise ValueError(f"this state is of another network: {name} is {seen}, here it is {wanted}")


def _noise(tensors: Mapping[str, Tensor]) -> NoiseStream:
    stream = NoiseStream(tensors["noise.seeds"], tensors["noise.used"])
    if any(each.dtype != torch.int64 or each.shape != tensors["past"].shape[:1] for each in vars(stream).values()):
        raise ValueError("its noise needs two int64 a world")
    return stream


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no state file '{path}'; save_state().save(path) writes one")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            return dict(header), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise ValueError(f"'{path}' is no state file; save_state().save(path) writes one") from None
