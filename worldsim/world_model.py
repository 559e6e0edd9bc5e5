"""The world: networks, codec, sampler and start states, saved as one folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from worldsim import engine
from worldsim.action import ActionSpec
from worldsim.cache import KVCache
from worldsim.codec import PixelCodec
from worldsim.cores import paint_alone_in_forks
from worldsim.heads import OutcomeHead, before_of
from worldsim.models.dit import CausalDiT
from worldsim.noise import NoiseStream
from worldsim.rollout import Sampler, at_level, leave_at, next_frame, remember
from worldsim.sampler import NOMINAL_STEPS, FewStepSampler, add_noise
from worldsim.world_files import INDEX, PARTS, SCHEMA, STARTS, read_index, verify_manifest, write_manifest
from worldsim.world_info import Starts, WorldInfo
from worldsim.world_state import WorldState
from worldsim.worlds import world_path

paint_alone_in_forks()

NETWORKS = dict(zip(PARTS, (CausalDiT, OutcomeHead), strict=True))
DOUBT_SIGMA = 0.05  # of 0.05, 0.1, 0.25, 0.4, 0.5, 0.67 and 0.9 the one that tells strange pasts best
DOUBT_STREAM = 0x646F756274  # a stream apart from that of the frames, which so stay the same with and without
END_STREAM = 0x656E64  # a stream apart, too: the ends of a world that draws them


@dataclass(frozen=True)
class Step:
    """What one step of B worlds returns: frame (B, 3, H, W) uint8, reward (B,) float32, ended (B,) bool.

    A world whose frame, reward or end held a NaN has the reward NaN; a frame that held one is the frame before it.
    """

    frame: Tensor
    reward: Tensor
    ended: Tensor
    doubt: Tensor | None = None
    """(B,) float32, what `WorldModel.doubt` says of the frame, where it was asked for."""


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
        sigmas = {sigma for steps in NOMINAL_STEPS for sigma in info.sigmas(steps)}
        self.painter = engine.packed(self.denoiser, sigmas)
        """The denoiser as it is played."""
        self.heads = heads.eval().requires_grad_(False)
        self.reader = engine.packed_head(self.heads)
        """The heads as they are played."""
        self._graphs = engine.frame_graphs(self.painter, self._paint_frame, self._commit_frame)
        self.starts = starts
        self.codec = codec or PixelCodec()
        self.fingerprint = fingerprint
        """SHA-256 of the manifest the weights came from; empty for a world that was never saved."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        # diffusers' own `device` goes through all modules, a millisecond and more of every frame.
        return next(self.denoiser.parameters()).device

    @property
    def engine(self) -> str:
        """What paints: "plain", the network as it is written, "packed" or "compiled". Each has last bits of its own."""
        return "plain" if self.painter is self.denoiser else self.painter.engine

    @property
    def is_graphed(self) -> bool:
        """Whether a frame's two halves are one CUDA graph each."""
        return self._graphs is not None and self._graphs.works

    def play_plain(self) -> None:
        """Change how the world is played: by the networks as they are written."""
        self.painter, self.reader, self._graphs = self.denoiser, self.heads, None

    def play_compiled(self) -> None:
        """Change how worlds are played: in compiled code, see `from_pretrained`. A warning says where not."""
        self.painter = engine.compiled(self.painter)
        self._graphs = engine.frame_graphs(self.painter, self._paint_frame, self._commit_frame)

    def with_commits(self) -> WorldModel:
        """The same networks as a world that commits every frame, whatever this one has learnt; made for comparisons."""
        other = copy.copy(self)
        other.info = replace(self.info, kept_sigma=0.0)
        other._graphs = engine.frame_graphs(other.painter, other._paint_frame, other._commit_frame)
        return other

    # --- playing ---

    @torch.no_grad()
    def reset(self, frames: Tensor, actions: Tensor, seeds: Sequence[int]) -> WorldState:
        """B worlds that remember K real frames.

        frames: (B, K, 3, H, W) uint8, K >= 1; actions: (B, K-1, A) between them; seeds: B noise seeds.
        Raises ValueError on any other shape or type.
        """
        self._check_past(frames, actions, seeds)
        cache = self.painter.new_cache(len(frames))
        remember(self.painter, cache, self._to_network(frames), self.sent(actions))
        return WorldState(cache, NoiseStream.of(seeds, self.device), self._past(frames).to(self.device))

    def empty_state(self) -> WorldState:
        """One world without a past: the form that every state of one of these worlds has."""
        frame = torch.zeros(1, 1, 3, self.info.height, self.info.width, dtype=torch.uint8, device=self.device)
        return WorldState(self.painter.new_cache(1), NoiseStream.of([0], self.device), self._past(frame))

    def step(self, state: WorldState, action: Tensor, *, steps: int | None = None, doubt: bool = False) -> Step:
        """Change the state by one frame under action (B, A), painted in `steps` network calls (1, 2 or 4).

        action: of any floating point type; the network gets it as float32, without its gradient.
        doubt: tell the network's doubt of the frame too, for one call more.
        """
        frame, sound = self.paint_checked(state, action, steps=steps)
        doubts = self.doubt(state, frame, action) if doubt else None
        done = self.commit(state, frame, action)
        return replace(done, reward=done.reward.masked_fill(~sound, torch.nan), doubt=doubts)

    def __deepcopy__(self, memo: dict) -> WorldModel:
        """Itself: environments' specifications, which are copied deeply, name the world that they share."""
        return self

    @torch.no_grad()
    def doubt(self, state: WorldState, frame: Tensor, action: Tensor) -> Tensor:
        """How far the network is from a frame it has painted but not committed, when it sees it again under a little
        noise: (B,) float32, root mean square in grey levels. Small in play as it was learnt, larger from a past unlike
        any of the source game; after a few frames, when a world has found back, small again. Changes nothing.
        """
        self._check_frame(state, frame)
        noise = state.noise.apart(DOUBT_STREAM)
        clean, action = self._to_network(frame), self.sent(action)
        noisy = add_noise(clean, noise.draw(clean.shape[1:]), clean.new_full((), DOUBT_SIGMA))
        again = at_level(self.painter, noisy, DOUBT_SIGMA, action, state.cache).clamp(-1.0, 1.0)
        return 127.5 * (again.float() - clean).square().flatten(1).mean(dim=1).sqrt()

    @torch.no_grad()
    def paint(self, state: WorldState, action: Tensor, *, steps: int | None = None) -> Tensor:
        """The next frame (B, 3, H, W) uint8, which can be shown before it is committed: the memory stays as it was, and
        the state changes only in where its noise stands and what the frame's last call has left."""
        return self.paint_checked(state, action, steps=steps)[0]

    @torch.no_grad()
    def paint_checked(self, state: WorldState, action: Tensor, *, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """`paint`, and (B,) bool whether the network's answer was free of NaN; where not, the frame is the last one."""
        self.check_action(state, action)
        paint = self._paint_frame if self._graphs is None else self._graphs.paint
        return self._paint(paint, self.sampler(steps), state, action)

    def sampler(self, steps: int | None = None) -> FewStepSampler:
        """What paints a frame in that many network calls, by default the world's own; ValueError for another count."""
        steps = self.info.default_steps if steps is None else steps
        return FewStepSampler(self.info.sigmas(steps), self.info.kept_sigma)

    @torch.no_grad()
    def paint_with(self, sampler: Sampler, state: WorldState, action: Tensor) -> Tensor:
        """`paint` with any sampler, such as the many-step teacher's `OdeSampler`."""
        self.check_action(state, action)
        return self._paint(self._paint_frame, sampler, state, action)[0]

    @torch.no_grad()
    def commit(self, state: WorldState, frame: Tensor, action: Tensor) -> Step:
        """Change the state: write the painted frame (B, 3, H, W) uint8 to memory, read reward and end off it.

        Of the very tensor that `paint` has just answered, unchanged and under the same action, a world with a
        `kept_sigma` keeps what its last call left; any other frame is committed.
        """
        self.check_action(state, action)
        self._check_frame(state, frame)
        is_pending, frame = frame is state.painted, frame.to(self.device)
        commit = self._commit_frame if self._graphs is None else self._graphs.commit
        reward, odds = commit(frame, before_of(state.past), self.sent(action), state.cache, is_pending)
        state.painted = None
        state.show(frame)
        return Step(frame, *self.outcome(reward, odds, state.noise))

    def outcome(self, reward: Tensor, odds: Tensor, noise: NoiseStream) -> tuple[Tensor, Tensor]:
        """Reward (B,) and end (B,) bool of worlds whose heads read this reward and these log-odds of an end, (B,) each,
        with a noise that stands where their frames left it."""
        paid, ended = reward, odds > 0
        if self.info.draws_ends:
            likely, ended = ended, torch.special.ndtr(noise.apart(END_STREAM).draw(())) < odds.sigmoid()
            if self.info.drawn_end_reward is not None:
                paid = torch.where(ended & ~likely & ~reward.isnan(), self.info.drawn_end_reward, reward)
        for final in self.info.final_rewards:
            paid, ended = torch.where(reward == final, reward, paid), ended | (reward == final)
        return paid, ended

    def _paint(self, paint: engine.Paint, sampler: Sampler, state: WorldState, action: Tensor) -> tuple[Tensor, Tensor]:
        """What `paint` answers; the state has the frame noted that may be kept, none where painting fails."""
        state.painted = None
        frame, sound = paint(sampler, state.noise, state.last, self.sent(action), state.cache)
        state.painted = None if leave_at(sampler) is None else frame
        return frame, sound

    def _paint_frame(
        self, sampler: Sampler, noise: NoiseStream, last: Tensor, action: Tensor, cache: KVCache
    ) -> tuple[Tensor, Tensor]:
        shape = cache.previous.shape[1:]
        frame = next_frame(self.painter, sampler, cache, action, lambda: noise.draw(shape))
        frame, sound = self.shown(frame, last)
        if leave_at(sampler) is not None:
            cache.drop_pending(~sound)
        return frame, sound

    def shown(self, painted: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """The frame (B, 3, H, W) uint8 that a network's answer (B, C, H, W) in [-1, 1] is, and (B,) bool whether that
        was free of NaN; where not, it is the last frame, which is also kept pixel by pixel within `still_levels`."""
        sound = ~painted.isnan().flatten(1).any(dim=1)
        frame, stays = self.codec.decode(painted), ~sound[:, None, None, None]
        if self.info.still_levels:
            change = (frame.short() - last.short()).abs().amax(dim=1, keepdim=True)
            stays = stays | (change <= self.info.still_levels)
        return torch.where(stays, last, frame), sound

    def _commit_frame(
        self, frame: Tensor, before: Tensor, action: Tensor, cache: KVCache, is_pending: bool
    ) -> tuple[Tensor, Tensor]:
        painted = self.codec.encode(frame)
        outcome = self.reader.read(self.codec.encode(before), painted)
        if is_pending:
            self.painter.keep(painted, cache)
        else:
            self.painter.commit(painted, action, cache)
        return outcome

    def _past(self, frames: Tensor) -> Tensor:
        """The last `lag` of K frames (B, K, ...), a copy; where there are fewer the first stands for those before."""
        lag = self.heads.config.lag
        return frames[:, torch.arange(frames.shape[1] - lag, frames.shape[1]).clamp(min=0)]

    def sent(self, action: Tensor) -> Tensor:
        """The action as float32 where the network is, without waiting for a GPU's earlier work."""
        return action.detach().to(self.device, torch.float32, non_blocking=True)

    # --- saving ---

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> WorldModel:
        """The shipped world of that name, or the world saved in that folder; its manifest is checked first.

        dtype: of the weights in memory; None means bfloat16. In float32 on a CPU a frame's last bits depend on its slot
        in a small batch, because matrix products of few rows are summed differently from row to row.
        compile: play single worlds in native code, compiled at the first time (some minutes) and kept in the user's
        cache, from where it loads in about 1.5 s; the frames differ by rounding. Without a C++ compiler a warning says
        so in one line and the world plays as without. On a GPU batches are compiled too, each number of worlds at its
        first frame.
        Raises ValueError where a file is missing, damaged or not in the manifest or the device cannot be used,
        FileNotFoundError where the folder is no world.
        """
        folder, device = world_path(name_or_path), _usable(device)
        fingerprint = verify_manifest(folder)
        index = read_index(folder)
        dtype = dtype or torch.bfloat16
        parts = {
            part: kind.from_pretrained(
                folder, subfolder=part, torch_dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
            ).to(device)
            for part, kind in NETWORKS.items()
        }
        info, actions = WorldInfo.from_json(index["world"]), ActionSpec.from_json(index["actions"])
        starts = Starts.load(folder / STARTS, info.height, info.width, index["start_actions"])
        world = cls(info, actions, **parts, starts=starts, fingerprint=fingerprint)
        if compile:
            world.play_compiled()
        return world

    def save_pretrained(self, path: str | Path) -> None:
        """Write one folder in diffusers' layout: bfloat16 weights and a manifest of every file's SHA-256."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        index = {"_class_name": "WorldModel", "schema": SCHEMA, "world": asdict(self.info)}
        for part, kind in NETWORKS.items():
            network = getattr(self, part)
            _as_shipped(network).save_pretrained(folder / part, safe_serialization=True)
            index[part] = [kind.__module__, kind.__name__]
        index["actions"] = self.actions.to_json()
        index["start_actions"] = self.starts.actions.tolist()
        self.starts.save(folder / STARTS)
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        self.fingerprint = write_manifest(folder)

    # --- checks ---

    def _to_network(self, pixels: Tensor) -> Tensor:
        return self.codec.encode(pixels.to(self.device))

    def _check_past(self, frames: Tensor, actions: Tensor, seeds: Sequence[int]) -> None:
        size = (3, self.info.height, self.info.width)
        pixels = isinstance(frames, Tensor) and frames.dtype == torch.uint8
        if not pixels or frames.dim() != 5 or frames.shape[1] < 1 or tuple(frames.shape[2:]) != size:
            right = f"(B, K, {', '.join(map(str, size))}) uint8"
            raise ValueError(f"start frames are {_seen(frames)}; this world takes {right}")
        batch, past = frames.shape[:2]
        right = (batch, past - 1, self.actions.size)
        if not _is_float(actions) or tuple(actions.shape) != right:
            raise ValueError(f"start actions are {_seen(actions)}; {past} frames have {right} float32 between them")
        if len(seeds) != batch:
            raise ValueError(f"{len(seeds)} seeds for {batch} worlds; give one each")

    def check_action(self, state: WorldState, action: Tensor) -> None:
        """ValueError in one line unless the action is (B, A) of floating point numbers for the worlds of this state."""
        right = (len(state.noise), self.actions.size)
        if not _is_float(action) or tuple(action.shape) != right:
            raise ValueError(f"action is {_seen(action)}; these worlds take {right} float32")

    def _check_frame(self, state: WorldState, frame: Tensor) -> None:
        right = tuple(state.last.shape)
        if not isinstance(frame, Tensor) or frame.dtype != torch.uint8 or tuple(frame.shape) != right:
            raise ValueError(f"painted frame is {_seen(frame)}; these worlds take {right} uint8")


def _usable(device: str | torch.device) -> torch.device:
    with suppress(RuntimeError, AssertionError, ImportError, TypeError):  # as torch says that it has no such device
        usable = torch.empty(0, device=device).device
        if usable.type != "meta":  # where tensors have no numbers
            return usable
    raise ValueError(f"device {str(device)!r} cannot be used here; use 'cpu', or 'cuda' with a GPU")


def _as_shipped(network: ModelMixin) -> ModelMixin:
    """A copy in bfloat16 that does not name the folder it was loaded from: the same weights make the same files."""
    copied = copy.deepcopy(network)
    copied._internal_dict = FrozenDict({key: copied.config[key] for key in copied.config if key != "_name_or_path"})
    for weight in copied.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return copied


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _seen(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}, no tensor"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
