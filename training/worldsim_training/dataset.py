"""Recordings in memory, cut into clips for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldsim.action import ActionSpec
from worldsim_training.episodes import SPLITS, read_episode, read_meta


@dataclass(frozen=True)
class Clip:
    """B windows of T frames; everything at index i tells of the step that led INTO frame i.

    In the words of an MDP, where `actions[t]` takes frame t to frame t+1: `clip.actions[:, i]` took `frames[:, i - 1]`
    to `frames[:, i]`. At i = 0 that is the action before the clip, which is known unless the episode starts there.

    frames:  (B, T, 3, H, W) uint8
    actions: (B, T, A) float32 channel vectors; zeros where not known
    known:   (B, T) bool, False where frame i is the first of its episode: no action, reward or end led there
    rewards: (B, T) float32, of the step into frame i; zero where not known
    ended:   (B, T) bool, the game ended with frame i
    """

    frames: Tensor
    actions: Tensor
    known: Tensor
    rewards: Tensor
    ended: Tensor

    def to(self, device: torch.device | str) -> Clip:
        """The same clip on another device."""
        onward = torch.device(device).type != "cpu"  # the CPU would read what has not come back yet
        return Clip(*(getattr(self, each.name).to(device, non_blocking=onward) for each in fields(self)))

    def every(self, step: int, first: int) -> Clip:
        """Every step-th window, from number `first` on."""
        return Clip(*(getattr(self, each.name)[first::step] for each in fields(self)))

    def split(self, parts: int) -> list[Clip]:
        """As many clips of B / parts windows, in order. ValueError where B does not divide."""
        if parts < 1 or len(self.frames) % parts:
            raise ValueError(f"{len(self.frames)} clips do not split into {parts} even parts")
        pieces = (getattr(self, each.name).chunk(parts) for each in fields(self))
        return [Clip(*piece) for piece in zip(*pieces, strict=True)]


@dataclass(frozen=True)
class Recording:
    """All episodes of one split, end to end: N frames in one array, each with the step that led into it.

    frames:   (N, H, W, 3) uint8
    actions:  (N, A) float32, known: (N,) bool, rewards: (N,) float32, ended: (N,) bool; as in `Clip`
    offsets:  (E+1,) int64; episode e is frames[offsets[e]:offsets[e + 1]]
    policies: the policy of each episode
    spec:     the game's actions
    meta:     contents of meta.json
    """

    frames: np.ndarray
    actions: np.ndarray
    known: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    offsets: np.ndarray
    policies: tuple[str, ...]
    spec: ActionSpec
    meta: dict[str, Any]

    @classmethod
    def load(
        cls, folder: str | Path, split: str, *, policies: Sequence[str] | None = None, progress: bool = True
    ) -> Recording:
        """Read and verify a split of a dataset, all of it or only the episodes of some policies.

        FileNotFoundError where there is no dataset, ValueError where it is unfinished, damaged or of another form.
        """
        folder = Path(folder)
        meta = read_meta(folder)
        if not meta["complete"]:
            raise ValueError(f"the recording in {folder} is not finished; start the same collect command again")
        entries = _choose(folder, meta, split, policies)
        spec = ActionSpec.from_json(meta["actions"])
        recording = cls._empty(entries, spec, meta)
        with ThreadPoolExecutor() as executor:  # unpacking and hashing release the interpreter's lock
            jobs = [
                executor.submit(recording._fill, e, folder / entry["file"], entry["sha256"])
                for e, entry in enumerate(entries)
            ]
            for job in tqdm(jobs, desc=f"load {split}", unit="episode", disable=not progress):
                job.result()
        return recording

    def to(self, device: torch.device | str) -> TensorRecording:
        """The recording as tensors, whole, on a device; on the CPU the frames are shared, not copied."""
        return TensorRecording(
            torch.from_numpy(self.frames).to(device).permute(0, 3, 1, 2),
            *(torch.from_numpy(each).to(device) for each in (self.actions, self.known, self.rewards, self.ended)),
            self.offsets,
        )

    @property
    def nbytes(self) -> int:
        """Memory that it takes, on whatever device."""
        return sum(each.nbytes for each in (self.frames, self.actions, self.known, self.rewards, self.ended))

    def longest(self, windows: int = 1) -> int:
        """Frames of the longest windows of which the episodes have so many; 1 where they have too few frames."""
        lengths = np.diff(self.offsets)
        falling = range(int(lengths.max()), 1, -1)
        return next((each for each in falling if np.maximum(lengths - each + 1, 0).sum() >= windows), 1)

    def windows(self, length: int, policies: Sequence[str] = ()) -> np.ndarray:
        """(E,) int64: how many windows of `length` frames each episode has; with policies, the others' have none.
        ValueError where all have none."""
        if length < 1:
            raise ValueError(f"a clip has at least 1 frame; asked for {length}")
        lengths = np.diff(self.offsets)
        if policies:
            lengths = np.where(np.isin(self.policies, policies), lengths, 0)
        if lengths.max() < length:
            raise ValueError(f"no episode has {length} frames; the longest of {len(lengths)} has {lengths.max()}")
        return np.maximum(lengths - length + 1, 0)

    def sample_starts(self, rng: np.random.Generator, n: int, length: int, policies: Sequence[str] = ()) -> np.ndarray:
        """(n,) int64 first frames of windows of `length` frames within one episode, uniform over all that `windows`
        counts."""
        windows = self.windows(length, policies)
        before = np.concatenate([[0], np.cumsum(windows)])
        picked = rng.integers(before[-1], size=n)
        episode = np.searchsorted(before, picked, side="right") - 1
        return self.offsets[episode] + picked - before[episode]

    def sample_starts_with(
        self, rng: np.random.Generator, events: np.ndarray, n: int, length: int, *, first: int = 1
    ) -> np.ndarray:
        """(n,) int64 first frames of windows that hold one of `events`, uniform over the windows around each.

        events: (M,) int64 frames, each in an episode of at least `length` frames. In its window an event is frame
        `first` or a later one, so that the step into it is there, too; or as late as can be, where it comes sooner than
        that in its episode or the window is no longer.
        """
        event = events[rng.integers(len(events), size=n)]
        episode = np.searchsorted(self.offsets, event, side="right") - 1
        low = np.maximum(self.offsets[episode], event - length + 1)
        high = np.minimum(event - first, self.offsets[episode + 1] - length)
        return rng.integers(low, np.maximum(low, high), endpoint=True)

    @classmethod
    def _empty(cls, entries: list[dict[str, Any]], spec: ActionSpec, meta: dict[str, Any]) -> Recording:
        offsets = np.cumsum([0] + [entry["steps"] + 1 for entry in entries], dtype=np.int64)
        total = int(offsets[-1])
        return cls(
            frames=np.empty((total, meta["height"], meta["width"], 3), np.uint8),
            actions=np.zeros((total, spec.size), np.float32),
            known=np.ones(total, bool),
            rewards=np.zeros(total, np.float32),
            ended=np.zeros(total, bool),
            offsets=offsets,
            policies=tuple(entry["policy"] for entry in entries),
            spec=spec,
            meta=meta,
        )

    def _fill(self, e: int, path: Path, sha256: str) -> None:
        """Read episode `e` into its place in the arrays."""
        episode = read_episode(path, sha256)
        first, end = self.offsets[e], self.offsets[e + 1]
        shape = (end - first, *self.frames.shape[1:])
        if episode.frames.shape != shape:
            raise ValueError(f"episode {path} has frames {episode.frames.shape}; the dataset's meta.json says {shape}")
        self.frames[first:end] = episode.frames
        self.actions[first + 1 : end] = self.spec.encode(episode.actions)
        self.known[first] = False
        self.rewards[first + 1 : end] = episode.rewards
        self.ended[end - 1] = episode.ended


@dataclass(frozen=True)
class TensorRecording:
    """A `Recording` on one device: frames (N, 3, H, W) uint8, the rest as there; offsets stay a numpy array."""

    frames: Tensor
    actions: Tensor
    known: Tensor
    rewards: Tensor
    ended: Tensor
    offsets: np.ndarray

    def clips(self, starts: np.ndarray | Sequence[int], length: int) -> Clip:
        """The windows of `length` frames that begin at the frames `starts` (B,). The caller sees to episode borders."""
        first = torch.as_tensor(np.asarray(starts, dtype=np.int64)).to(self.frames.device)
        index = first[:, None] + torch.arange(length, device=first.device)
        flat = index.flatten()
        gathered = (self.frames, self.actions, self.known, self.rewards, self.ended)
        return Clip(*(each.index_select(0, flat).contiguous().unflatten(0, index.shape) for each in gathered))


class ClipSampler:
    """Random clips of a recording, endlessly: no clip crosses the border of an episode.

    A clip's start is uniform over all windows of the recording. `reward_share` of the clips (on average) are drawn
    instead around a frame with a reward, `end_share` around the end of a game, which is frame `first` of its clip or a
    later one. A share of something that the recording has not is 0 all the same, and named in `without`.
    The same seed gives the same clips on every device; `state_dict` resumes bit for bit.
    The recording lies on the device where it takes at most `resident_bytes` there (none given: half of a GPU's free
    memory), else in main memory, from which each batch is sent. The clips are the same.
    """

    def __init__(
        self,
        recording: Recording,
        clip_frames: int,
        batch: int,
        seed: int,
        *,
        device: torch.device | str = "cpu",
        reward_share: float = 0.0,
        end_share: float = 0.0,
        first: int = 1,
        resident_bytes: int | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"a batch has at least 1 clip; asked for {batch}")
        if min(reward_share, end_share) < 0 or reward_share + end_share > 1:
            raise ValueError(f"reward_share={reward_share} and end_share={end_share}; shares are >= 0, their sum <= 1")
        self.recording = recording
        self.clip_frames, self.batch, self.first = clip_frames, batch, first
        self.events = (self._events(recording.rewards != 0), self._events(recording.ended))
        asked = {"reward_share": reward_share, "end_share": end_share}
        self.shares = tuple(
            each if len(there) else 0.0 for each, there in zip(asked.values(), self.events, strict=True)
        )
        self.without = tuple(name for name, share in zip(asked, self.shares, strict=True) if share < asked[name])
        """The shares that were asked for in vain: `reward_share`, `end_share`."""
        self.device = torch.device(device)
        fits = recording.nbytes <= (_room(self.device) if resident_bytes is None else resident_bytes)
        self.tensors = recording.to(self.device if fits else "cpu")
        self.rng = np.random.default_rng(seed)

    def sample(self) -> Clip:
        """The next clips: B = batch, T = clip_frames."""
        return self.tensors.clips(self._starts(), self.clip_frames).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """The random generator's state as data for JSON, and what it belongs to."""
        return {"drawn_from": self._drawn_from(), "generator": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. ValueError where that was another recording or another sampler."""
        if state["drawn_from"] != self._drawn_from():
            raise ValueError(f"sampler state is of {state['drawn_from']}; this sampler draws {self._drawn_from()}")
        self.rng.bit_generator.state = state["generator"]

    def _starts(self) -> np.ndarray:
        starts = self.recording.sample_starts(self.rng, self.batch, self.clip_frames)
        kind = self.rng.random(self.batch)
        low = 0.0
        for share, events in zip(self.shares, self.events, strict=True):
            chosen = (kind >= low) & (kind < low + share)
            low += share
            if chosen.any():
                amount = (int(chosen.sum()), self.clip_frames)
                starts[chosen] = self.recording.sample_starts_with(self.rng, events, *amount, first=self.first)
        return starts

    def _events(self, is_event: np.ndarray) -> np.ndarray:
        """(M,) frames of the events that lie in episodes long enough for a clip."""
        fits = np.repeat(self.recording.windows(self.clip_frames) > 0, np.diff(self.recording.offsets))
        return np.flatnonzero(is_event & fits)

    def _drawn_from(self) -> dict[str, Any]:
        return {
            "frames": len(self.recording.frames),
            "episodes": len(self.recording.policies),
            "clip_frames": self.clip_frames,
            "batch": self.batch,
            "shares": list(self.shares),
        }


def _room(device: torch.device) -> float:
    """Bytes that a recording may take on a device."""
    if device.type != "cuda":
        return float("inf")
    return torch.cuda.mem_get_info(device)[0] / 2  # the rest is for networks, optimisers and activations


def _choose(folder: Path, meta: dict[str, Any], split: str, policies: Sequence[str] | None) -> list[dict[str, Any]]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; a dataset has {', '.join(SPLITS)}")
    of_split = [entry for entry in meta["episodes"] if entry["split"] == split]
    entries = [entry for entry in of_split if policies is None or entry["policy"] in policies]
    if not entries:
        there = ", ".join(sorted({entry["policy"] for entry in of_split})) or "none"
        raise ValueError(f"{folder} has no {split} episodes of {list(policies or ['any'])}; recorded policies: {there}")
    return entries
