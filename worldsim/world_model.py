"""The world: networks, codec, sampler and start states, saved as one folder; and the state that playing changes."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldsim.action import ActionSpec
from worldsim.cache import KVCache
from worldsim.codec import PixelCodec
from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.rollout import Sampler, next_frame, remember
from worldsim.sampler import NOMINAL_STEPS, FewStepSampler, step_sigmas
from worldsim.worlds import world_path

SCHEMA = 1
INDEX = "model_index.json"
MANIFEST = "manifest.json"
STARTS = "starts.safetensors"
PARTS = {"denoiser": CausalDiT, "heads": OutcomeHead}


@dataclass(frozen=True)
class WorldInfo:
    """What a world is, apart from its weights."""

    name: str
    env_id: str
    """gymnasium id of the source game."""
    height: int
    width: int
    fps: int
    """Frames a second at which the source game was recorded."""
    window_frames: int
    """Past frames that the network's attention sees; as many real frames make a good start."""
    max_episode_steps: int
    shift: float
    """Shift of the step lists (METHOD §2.4)."""
    default_steps: int = 2
    step_choices: tuple[int, ...] = tuple(NOMINAL_STEPS)


@dataclass(frozen=True)
class Starts:
    """Real moments from held-out recordings to begin from: frames (S, K, H, W, 3) uint8, native actions (S, K-1[, A])."""

    frames: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Step:
    """What one step of B worlds returns: frame (B, 3, H, W) uint8, reward (B,) float32, ended (B,) bool."""

    frame: Tensor
    reward: Tensor
    ended: Tensor


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
        generators = [torch.Generator().set_state(generator.get_state()) for generator in self.generators]
        return WorldState(self.cache.clone(), generators, self.last.clone(), self.step_count)


class WorldModel:
    """A playable world: `reset` from real frames, then `step` under actions. Weights never change while playing."""

    def __init__(
        self,
        info: WorldInfo,
        actions: ActionSpec,
        denoiser: CausalDiT,
        heads: OutcomeHead,
        starts: Starts,
        *,
        codec: PixelCodec | None = None,
        fingerprint: str = "",
    ) -> None:
        self.info = info
        self.actions = actions
        self.denoiser = denoiser.eval().requires_grad_(False)
        self.heads = heads.eval().requires_grad_(False)
        self.starts = starts
        self.codec = codec or PixelCodec()
        self.fingerprint = fingerprint
        """SHA-256 of the manifest the weights came from; empty for a world that was never saved."""

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    # --- playing ---

    @torch.no_grad()
    def reset(self, frames: Tensor, actions: Tensor, seeds: Sequence[int]) -> WorldState:
        """B worlds that remember K real frames.

        frames: (B, K, 3, H, W) uint8, K >= 1; actions: (B, K-1, A) float32 between them; seeds: B noise seeds.
        Raises ValueError on any other shape or type.
        """
        self._check_past(frames, actions, seeds)
        cache = self.denoiser.new_cache(len(frames))
        remember(self.denoiser, cache, self._to_network(frames), actions.to(self.device))
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        return WorldState(cache, generators, frames[:, -1].to(self.device))

    def step(self, state: WorldState, action: Tensor, *, steps: int | None = None) -> Step:
        """Change the state by one frame under action (B, A) float32, painted in `steps` network calls (1, 2 or 4)."""
        frame = self.paint(state, action, steps=steps)
        return self.commit(state, frame, action)

    @torch.no_grad()
    def paint(self, state: WorldState, action: Tensor, *, steps: int | None = None) -> Tensor:
        """The next frame (B, 3, H, W) uint8; changes only the state's random generators, so it can be shown first."""
        self._check_action(state, action)
        sampler = FewStepSampler(step_sigmas(steps or self.info.default_steps, self.info.shift))
        return self.paint_with(sampler, state, action)

    @torch.no_grad()
    def paint_with(self, sampler: Sampler, state: WorldState, action: Tensor) -> Tensor:
        """`paint` with any sampler, such as the many-step teacher's `OdeSampler`."""
        shape = state.cache.previous.shape[1:]

        def noise() -> Tensor:
            drawn = [torch.randn(shape, generator=generator) for generator in state.generators]
            return torch.stack(drawn).to(self.device)

        frame = next_frame(self.denoiser, sampler, state.cache, action.to(self.device), noise)
        return self.codec.decode(frame)

    @torch.no_grad()
    def commit(self, state: WorldState, frame: Tensor, action: Tensor) -> Step:
        """Change the state: write the painted frame to memory, read reward and end off it."""
        painted = self._to_network(frame)
        reward, ended = self.heads.read(self._to_network(state.last), painted)
        self.denoiser.commit(painted, action.to(self.device), state.cache)
        state.last = frame
        state.step_count += 1
        return Step(frame, reward, ended)

    # --- saving ---

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> WorldModel:
        """The shipped world of that name, or the world saved in that folder; its manifest is checked first.

        dtype: of the weights in memory; None means bfloat16. Raises ValueError where a file is missing, damaged or
        not in the manifest, FileNotFoundError where there is no such world.
        """
        folder = world_path(name_or_path)
        fingerprint = verify_manifest(folder)
        index = json.loads((folder / INDEX).read_text())
        dtype = dtype or torch.bfloat16
        parts = {
            part: kind.from_pretrained(
                folder, subfolder=part, torch_dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
            ).to(device)
            for part, kind in PARTS.items()
        }
        starts = {key: value.numpy() for key, value in load_file(folder / STARTS).items()}
        actions = ActionSpec.from_json(index["actions"])
        return cls(_read_info(index), actions, **parts, starts=Starts(**starts), fingerprint=fingerprint)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the world as one folder in diffusers' layout, bfloat16 weights, with a manifest of every file's SHA-256."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        index = {"_class_name": "WorldModel", "schema": SCHEMA, "world": asdict(self.info)}
        for part, kind in PARTS.items():
            network = getattr(self, part)
            _in_bfloat16(network).save_pretrained(folder / part, safe_serialization=True)
            index[part] = [kind.__module__, kind.__name__]
        index["actions"] = self.actions.to_json()
        starts = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in asdict(self.starts).items()}
        save_file(starts, folder / STARTS)
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        self.fingerprint = write_manifest(folder)

    # --- checks ---

    def _to_network(self, pixels: Tensor) -> Tensor:
        return self.codec.encode(pixels.to(self.device))

    def _check_past(self, frames: Tensor, actions: Tensor, seeds: Sequence[int]) -> None:
        size = (3, self.info.height, self.info.width)
        if frames.dim() != 5 or frames.shape[1] < 1 or tuple(frames.shape[2:]) != size or frames.dtype != torch.uint8:
            seen = f"{tuple(frames.shape)} {str(frames.dtype).removeprefix('torch.')}"
            raise ValueError(f"start frames are {seen}; this world takes (B, K, {', '.join(map(str, size))}) uint8")
        batch, past = frames.shape[:2]
        if tuple(actions.shape) != (batch, past - 1, self.actions.size):
            right = (batch, past - 1, self.actions.size)
            raise ValueError(f"start actions are {tuple(actions.shape)}; {past} frames have {right} between them")
        if len(seeds) != batch:
            raise ValueError(f"{len(seeds)} seeds for {batch} worlds; give one each")

    def _check_action(self, state: WorldState, action: Tensor) -> None:
        right = (len(state.generators), self.actions.size)
        if tuple(action.shape) != right:
            raise ValueError(f"action has shape {tuple(action.shape)}; these worlds take {right}")


def write_manifest(folder: Path) -> str:
    """Write `manifest.json` (size and SHA-256 of every other file) and return the manifest's own SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    listed = {path.relative_to(folder).as_posix(): _digest(path) for path in files if path.suffix != ".md"}
    (folder / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "files": listed}, indent=2) + "\n")
    return _digest(folder / MANIFEST)["sha256"]


def verify_manifest(folder: Path) -> str:
    """Check every file of a world against its manifest; returns the manifest's SHA-256. ValueError names what differs."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}; a world is a folder written by WorldModel.save_pretrained")
    try:
        listed = json.loads(path.read_text())["files"]
        rows = [(str(name), int(entry["bytes"]), str(entry["sha256"])) for name, entry in listed.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged; restore the world's folder from where it came") from None
    for needed in (INDEX, STARTS, *(f"{part}/diffusion_pytorch_model.safetensors" for part in PARTS)):
        if needed not in listed:
            raise ValueError(f"{path} does not list {needed}; restore the world's folder from where it came")
    for name, size, sha256 in rows:
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not file.is_file():
            raise ValueError(f"world file {name} is missing from {folder}; restore it from where the world came")
        if file.stat().st_size != size or _digest(file)["sha256"] != sha256:
            raise ValueError(f"world file {file} does not match its manifest (damaged or changed); restore it")
    return _digest(path)["sha256"]


def _in_bfloat16(network: ModelMixin) -> ModelMixin:
    copied = copy.deepcopy(network)
    for weight in copied.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return copied


def _digest(path: Path) -> dict[str, int | str]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read_info(index: dict) -> WorldInfo:
    if index.get("schema") != SCHEMA:
        raise ValueError(f"world has schema {index.get('schema')}; this version of worldsim reads {SCHEMA}")
    known = {field.name for field in fields(WorldInfo)}
    stored = index["world"]
    if set(stored) != known:
        odd = ", ".join(sorted(set(stored) ^ known))
        raise ValueError(f"world description has missing or unknown fields: {odd}")
    return WorldInfo(**{**stored, "step_choices": tuple(stored["step_choices"])})
