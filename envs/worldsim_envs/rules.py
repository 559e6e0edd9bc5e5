"""The rules of one world, which the single and the batched environment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from worldsim.checks import checked_steps, is_whole
from worldsim_envs.role import Role

if TYPE_CHECKING:
    import torch

    from worldsim.world_model import WorldModel, WorldState

OPTIONS = ("frames", "actions", "start", "steps", "conditions")
NO_LIMIT = -1  # the word gymnasium.make uses


@dataclass(frozen=True)
class Beginning:
    """How an episode begins: a past of frames (K, H, W, 3) uint8 and native actions, and the seed of its noise."""

    start: int
    """Index of the start state, -1 for a past the caller gave."""
    frames: np.ndarray
    actions: np.ndarray
    noise_seed: int
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Condition -> value, of those that are fixed for the agent."""


class Rules:
    """What a world's episodes allow: spaces, reset options, actions, denoising steps and the time limit.

    world:             a shipped world's name, a folder that `WorldModel.save_pretrained` wrote, or a `WorldModel`.
    device:            where the network runs, as torch names it; a `WorldModel` stays where it is.
    compile:           play it in native code, as `WorldModel.from_pretrained` says; a `WorldModel` plays as it does.
    max_episode_steps: None takes the world's own limit, -1 sets none.
    channel_actions:   the actions are channel vectors (A,) float32 instead of the source game's own.
    fixed:             conditions that are no part of the action, as `Role` takes them.
    ood_every:         tell the network's doubt of its frame (`WorldModel.doubt`, grey levels) in `info["ood"]` at every
                       so many steps, for one network call more; 0 never does. Doubt fades within a few frames of a
                       strange start, so that only 1 misses none.
    ood_limit:         truncate an episode where that doubt is larger; None never does.
    Raises ValueError in one line for anything else.
    """

    def __init__(
        self,
        world: str | WorldModel,
        *,
        device: str = "cpu",
        compile: bool = False,
        max_episode_steps: int | None = None,
        channel_actions: bool = False,
        fixed: Mapping[str, str | None] | None = None,
        ood_every: int = 0,
        ood_limit: float | None = None,
    ) -> None:
        from worldsim.world_model import WorldModel

        is_model = isinstance(world, WorldModel)
        self.model = world if is_model else WorldModel.from_pretrained(world, device=device, compile=compile)
        info, self.actions = self.model.info, self.model.actions
        self.limit = frame_limit(max_episode_steps, info.max_episode_steps)
        """Frames until an episode is truncated, or None."""
        self.ood_every, self.ood_limit = _guard(ood_every, ood_limit)
        self.role = Role(self.actions, fixed, channel_actions=channel_actions)
        """What the agent plays of the world's `actions`."""
        self.observation_space = gym.spaces.Box(0, 255, (info.height, info.width, 3), np.uint8)
        self.action_space = self.role.space

    def is_late(self, steps: int | np.ndarray) -> bool | np.ndarray:
        """Whether an episode of so many frames is at its time limit."""
        return steps >= (np.inf if self.limit is None else self.limit)

    def asks_doubt(self, step: int | np.ndarray) -> bool | np.ndarray:
        """Whether the network's doubt is told at that step of an episode, counted from 1."""
        return (self.ood_every > 0) & (step % max(self.ood_every, 1) == 0)

    def is_strange(self, doubt: float | np.ndarray) -> bool | np.ndarray:
        """Whether an episode ends for that doubt."""
        return doubt > (np.inf if self.ood_limit is None else self.ood_limit)

    def begin(self, rng: np.random.Generator, options: dict[str, Any]) -> Beginning:
        """How an episode under checked options begins; always draws start, noise seed and what is fixed."""
        starts = self.model.starts
        drawn, noise_seed = int(rng.integers(len(starts.frames))), int(rng.integers(2**63 - 1))
        fixed = self.role.draw(rng)
        if "frames" in options:
            return Beginning(-1, options["frames"], options["actions"], noise_seed, fixed)
        start = options.get("start", drawn)
        return Beginning(start, starts.frames[start], starts.actions[start], noise_seed, fixed)

    def enter(self, beginning: Beginning) -> WorldState:
        """A world that remembers that past."""
        images = tensor(np.moveaxis(beginning.frames, -1, 1)[None])
        vectors = tensor(self.actions.encode(beginning.actions)[None])
        return self.model.reset(images, vectors, [beginning.noise_seed])

    def conditions(self, beginning: Beginning, options: dict[str, Any]) -> np.ndarray:
        """Channel vector (A,) of the conditions that hold at a beginning: as asked, else as fixed, else as its last
        action has it."""
        held = None
        if "conditions" not in options and len(beginning.actions):
            held = self.actions.hold(self.actions.encode(beginning.actions[-1]), self.actions.condition_vector())
        return self.actions.condition_vector({**beginning.conditions, **options.get("conditions", {})}, held)

    def checked_steps(self, steps: int) -> int:
        """A number of denoising steps that this world knows; ValueError for any other."""
        return checked_steps(steps, self.model.info.step_choices)

    def checked_options(self, options: dict[str, Any] | None) -> dict[str, Any]:
        """The options of a reset, checked; `WorldEnv.reset` tells what they are."""
        options = known_options(options, OPTIONS)
        if "steps" in options:
            options["steps"] = self.checked_steps(options["steps"])
        if options.get("conditions") is None:
            options.pop("conditions", None)
        else:
            self.actions.condition_vector(options["conditions"])
        if "start" in options:
            options["start"] = self._checked_start(options["start"], options)
        if "frames" in options or "actions" in options:
            options["frames"], options["actions"] = self._checked_past(options.get("frames"), options.get("actions"))
        return options

    def checked_start(self, options: Any) -> dict[str, Any]:
        """What a start loader returned, checked: reset options that say where an episode begins, and nothing else."""
        if not isinstance(options, Mapping) or not set(options) <= {"start", "frames", "actions"}:
            seen = sorted(options) if isinstance(options, Mapping) else f"a {type(options).__name__}"
            raise ValueError(f"it returned {seen}; return a dict with 'start', or with 'frames' and 'actions'")
        return self.checked_options(options)

    def _checked_start(self, start: int, options: dict[str, Any]) -> int:
        count = len(self.model.starts.frames)
        if not is_whole(start) or not 0 <= start < count:
            raise ValueError(f"start={start!r}; this world has start states 0..{count - 1}")
        if "frames" in options:
            raise ValueError("reset options 'start' and 'frames' exclude each other; give one of them")
        return int(start)

    def _checked_past(self, frames: Any, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        if frames is None or actions is None:
            missing = "frames" if frames is None else "actions"
            raise ValueError(f"reset option {missing!r} is missing; a past is 'frames' (K, ...) and 'actions' (K - 1,)")
        frames, actions = np.asarray(frames), np.asarray(actions)
        shape, native = self.observation_space.shape, self.actions.space()
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
            right = f"(K, {shape[0]}, {shape[1]}, 3) uint8 with K >= 1"
            raise ValueError(f"reset option 'frames' is {frames.shape} {frames.dtype}; give {right}")
        right = (len(frames) - 1, *(native.shape or ()))
        if actions.shape != right:
            raise ValueError(f"reset option 'actions' has shape {actions.shape}; {len(frames)} frames need {right}")
        if not actions.size:
            actions = np.zeros(right, native.dtype)
        self.actions.encode(actions)
        return frames, actions


def tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of its own with the same numbers."""
    import torch

    return torch.from_numpy(np.array(array, order="C"))


def known_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """A copy of a reset's options; ValueError in one line where they are no mapping or one of them is not known."""
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"reset options are of type {type(options).__name__}; give a dict of {', '.join(known)}")
    for name in options or {}:
        if name not in known:
            raise ValueError(f"unknown reset option {name!r}; use {', '.join(known)}")
    return dict(options or {})


def frame_limit(asked: int | None, world: int | None) -> int | None:
    """Frames until an episode is truncated, None for never: as asked for, or the world's own; ValueError else."""
    if asked is None:
        return world
    if asked == NO_LIMIT:
        return None
    if not is_whole(asked) or asked < 1:
        raise ValueError(f"max_episode_steps={asked!r}; give a number of frames from 1, None or -1 for no limit")
    return int(asked)


def _guard(every: int, limit: float | None) -> tuple[int, float | None]:
    if not is_whole(every) or every < 0:
        raise ValueError(f"ood_every={every!r}; give a number of steps from 1, or 0 for never")
    if limit is not None and (not every or not limit > 0):
        raise ValueError(f"ood_limit={limit!r} with ood_every={every}; give grey levels above 0, and ood_every from 1")
    return int(every), limit
