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

SCHEMA = 1
HEADER = "worldsim.state"
"""Key of the JSON description in the file's own header."""


@dataclass
class WorldState:
    """Everything that changes while B worlds are played; a clone of it is a save state."""

    cache: KVCache
    generators: list[torch.Generator]
    last: Tensor
    """(B, 3, H, W) uint8, the frame now on the screen: the heads' memory."""
    step_count: int = 0

    def clone(self) -> WorldState:
        """An independent copy that continues exactly as this one would."""
        return self.select(range(len(self.generators)))

    def with_noise(self, seed: int) -> WorldState:
        """An independent copy of one world whose noise begins at that seed."""
        return WorldState(self.cache.clone(), [torch.Generator().manual_seed(seed)], self.last.clone(), self.step_count)

    def noise_marks(self) -> list[Tensor]:
        """Where each world's noise stands, for `rewind_noise`."""
        return [generator.get_state() for generator in self.generators]

    def rewind_noise(self, marks: Sequence[Tensor]) -> None:
        """Change the random generators back to where they stood."""
        for generator, mark in zip(self.generators, marks, strict=True):
            generator.set_state(mark)

    def select(self, worlds: Sequence[int]) -> WorldState:
        """An independent copy of these worlds, in this order; the same one may be named twice."""
        generators = [torch.Generator().set_state(self.generators[world].get_state()) for world in worlds]
        return WorldState(self.cache.select(worlds), generators, self.last[list(worlds)], self.step_count)

    def put(self, worlds: Sequence[int], state: WorldState) -> None:
        """Change these worlds into copies of those of `state`, one each; the others keep their bytes."""
        self.cache.put(worlds, state.cache)
        self.last[list(worlds)] = state.last
        for world, generator in zip(worlds, state.generators, strict=True):
            self.generators[world] = torch.Generator().set_state(generator.get_state())

    @classmethod
    def join(cls, states: Sequence[WorldState]) -> WorldState:
        """Copies of all worlds of the given states as one batch; the step count is the first one's."""
        cache = KVCache.join([state.cache for state in states])
        joined = [generator for state in states for generator in state.generators]
        generators = [torch.Generator().set_state(generator.get_state()) for generator in joined]
        return cls(cache, generators, torch.cat([state.last for state in states]), states[0].step_count)

    def to(self, device: torch.device | str) -> WorldState:
        """An independent copy on that device; random generators stay on the CPU."""
        copied = self.clone()
        copied.cache, copied.last = copied.cache.to(device), copied.last.to(device)
        return copied

    def save(self, path: str | Path, *, checkpoint: str, facts: Mapping | None = None) -> None:
        """Write one safetensors file. checkpoint: the world's `fingerprint`; facts: JSON data to keep beside it."""
        tensors = {f"cache.{name}": tensor for name, tensor in self.cache.tensors().items()}
        tensors["last"] = self.last
        tensors["generators"] = torch.stack([generator.get_state() for generator in self.generators])
        header = {"schema": SCHEMA, "checkpoint": checkpoint, "step_count": self.step_count, "facts": dict(facts or {})}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, path, metadata={HEADER: json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> tuple[WorldState, str, dict]:
        """What `save` wrote, on the CPU: state, checkpoint, facts. ValueError in one line where the file is none."""
        header, tensors = _read(Path(path))
        if header.get("schema") != SCHEMA:
            raise ValueError(f"state file '{path}' has schema {header.get('schema')!r}; this worldsim reads {SCHEMA}")
        try:
            stored = {name.removeprefix("cache."): tensors[name] for name in tensors if name.startswith("cache.")}
            generators = [torch.Generator().set_state(state) for state in tensors["generators"]]
            state = cls(KVCache.of(stored), generators, tensors["last"], int(header["step_count"]))
            return state, str(header["checkpoint"]), dict(header["facts"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"state file '{path}' is damaged ({error!r}); save the state again") from None


def check_same_form(state: WorldState, right: WorldState) -> None:
    """ValueError in one line unless both hold one and the same kind of world: sizes and types of every tensor."""
    theirs, ours = state.cache.tensors() | {"last": state.last}, right.cache.tensors() | {"last": right.last}
    if set(theirs) != set(ours):
        raise ValueError("this state is of another network; load one that was saved in this world")
    for name, tensor in theirs.items():
        if tensor.shape != ours[name].shape or tensor.dtype != ours[name].dtype:
            seen, wanted = (f"{tuple(each.shape)} {each.dtype}" for each in (tensor, ours[name]))
            raise ValueError(f"this state is of another network: {name} is {seen}, here it is {wanted}")


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no state file '{path}'; save_state().save(path) writes one")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            return dict(header), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise ValueError(f"'{path}' is no state file; save_state().save(path) writes one") from None
