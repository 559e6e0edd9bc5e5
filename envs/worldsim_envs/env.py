"""A world model as a gymnasium environment."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim.action import ActionSpec

OPTIONS = ("frames", "actions", "start", "steps")
NO_LIMIT = -1  # the word gymnasium.make uses


class WorldEnv(gym.Env):
    """A game that a network paints: the source game's own actions in, (H, W, 3) uint8 frames out.

    world:             a shipped world's name ("boxing") or a folder that `WorldModel.save_pretrained` wrote.
    steps:             denoising steps a frame, one of the world's `step_choices`; None takes the world's default.
    device:            where the network runs, as torch names it ("cpu", "cuda").
    max_episode_steps: frames until `truncated`; None takes the world's own limit, -1 sets none.

    The same seed and actions give the same bytes. `info` holds `step` (frames since reset), `steps` (denoising steps
    a frame) and `start` (index of the start state, -1 for a past the caller gave).
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 15}

    def __init__(
        self,
        world: str = "boxing",
        *,
        render_mode: str | None = None,
        steps: int | None = None,
        device: str = "cpu",
        max_episode_steps: int | None = None,
    ) -> None:
        from worldsim.world_model import WorldModel

        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"unknown render_mode {render_mode!r}; use None, 'rgb_array' or 'human'")
        self.model = WorldModel.from_pretrained(world, device=device)
        info = self.model.info
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": int(info.fps)}
        self.observation_space = gym.spaces.Box(0, 255, (info.height, info.width, 3), np.uint8)
        self.action_space = self.actions.space()
        self._limit = _limit(max_episode_steps, info.max_episode_steps)
        self._steps = self._usual_steps = self._checked_steps(info.default_steps if steps is None else steps)
        self._state = self._painted = None
        self._over = False
        self._frame = np.zeros(self.observation_space.shape, np.uint8)
        self._viewer = None

    @property
    def actions(self) -> ActionSpec:
        """What the world's actions mean: channels, names and keys."""
        return self.model.actions

    @property
    def steps(self) -> int:
        """Denoising steps a frame; may be set while playing and then holds for later episodes too."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._steps = self._usual_steps = self._checked_steps(steps)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode at one of the world's start states, or after a past of the caller's own.

        options, all optional:
            frames:  (K, H, W, 3) uint8, the past to go on from, oldest first; needs `actions`.
            actions: (K - 1,) the source game's own actions between those frames.
            start:   index of the start state to take; drawn from the seed where it is left out.
            steps:   denoising steps a frame, for this episode only.
        Raises ValueError in one line for anything else and then leaves the running episode as it was.
        """
        options = self._checked_options(options)
        steps = options.get("steps", self._usual_steps)
        super().reset(seed=seed)
        start = options.get("start", int(self.np_random.integers(len(self.model.starts.frames))))
        noise_seed = int(self.np_random.integers(2**63 - 1))
        if "frames" in options:
            start, frames, actions = -1, options["frames"], options["actions"]
        else:
            frames, actions = self.model.starts.frames[start], self.model.starts.actions[start]
        self._state = self.model.reset(self._images(frames), self._vectors(actions), [noise_seed])
        self._steps, self._start, self._count = steps, start, 0
        self._painted, self._over = None, False
        self._frame = np.array(frames[-1], np.uint8)
        self._show()
        return self._frame.copy(), self._info()

    def step(self, action):
        """Paint and commit the frame that the action leads to.

        action: one of the source game's own. Returns observation (H, W, 3) uint8, reward, terminated, truncated, info.
        Raises ValueError in one line for any other action and then leaves the episode as it was.
        """
        observation = self.paint(action)
        return observation, *self.commit()

    def paint(self, action) -> np.ndarray:
        """The first half of `step`: the next observation (H, W, 3) uint8, ready to be shown. `commit` must follow."""
        if self._state is None or self._over:
            raise ResetNeeded("the episode is over; call reset()" if self._over else "call reset() before step()")
        if self._painted is not None:
            raise ResetNeeded("a painted frame waits for commit(); call that, or reset()")
        vector = self.actions.encode(action)
        if vector.shape != (self.actions.size,):
            raise ValueError(f"action has shape {np.shape(action)}; give one action of {self.action_space}")
        vector = self._tensor(vector[None])
        frame = self.model.paint(self._state, vector, steps=self._steps)
        self._painted = frame, vector
        self._frame = frame[0].permute(1, 2, 0).cpu().numpy().copy()
        self._show()
        return self._frame.copy()

    def commit(self) -> tuple[float, bool, bool, dict[str, Any]]:
        """The second half of `step`: remember the painted frame. Returns reward, terminated, truncated, info."""
        if self._painted is None:
            raise ResetNeeded("there is no painted frame; call paint(action) first")
        outcome = self.model.commit(self._state, *self._painted)
        self._painted = None
        self._count += 1
        terminated = bool(outcome.ended[0])
        truncated = self._limit is not None and self._count >= self._limit
        self._over = terminated or truncated
        return float(outcome.reward[0]), terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """The current frame (H, W, 3) uint8 in mode "rgb_array"; mode "human" shows each frame by itself."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; use gym.make(id, render_mode='rgb_array')")
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one. The episode may go on."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Every useful set of held pygame keys and the action it means, as `gymnasium.utils.play` asks for it."""
        from worldsim.window import key_code

        names = sorted({name for keys in self.actions.keys.values() for name in keys})
        at_once = range(1, min(len(names), 5) + 1)
        return {
            tuple(sorted(key_code(name) for name in held)): self.actions.decode(self.actions.from_keys(held))
            for held in itertools.chain.from_iterable(itertools.combinations(names, n) for n in at_once)
        }

    def _checked_steps(self, steps: int) -> int:
        choices = self.model.info.step_choices
        if isinstance(steps, bool) or steps not in choices:
            raise ValueError(f"steps={steps!r}; this world paints in {', '.join(map(str, choices))} denoising steps")
        return int(steps)

    def _checked_options(self, options: dict[str, Any] | None) -> dict[str, Any]:
        options = dict(options or {})
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ValueError(f"unknown reset option {unknown[0]!r}; use {', '.join(OPTIONS)}")
        if "steps" in options:
            options["steps"] = self._checked_steps(options["steps"])
        if "start" in options:
            options["start"] = self._checked_start(options["start"], options)
        if "frames" in options or "actions" in options:
            options["frames"], options["actions"] = self._checked_past(options.get("frames"), options.get("actions"))
        return options

    def _checked_start(self, start: int, options: dict[str, Any]) -> int:
        count = len(self.model.starts.frames)
        if isinstance(start, bool) or not isinstance(start, int | np.integer) or not 0 <= start < count:
            raise ValueError(f"start={start!r}; this world has start states 0..{count - 1}")
        if "frames" in options:
            raise ValueError("reset options 'start' and 'frames' exclude each other; give one of them")
        return int(start)

    def _checked_past(self, frames: Any, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        if frames is None or actions is None:
            missing = "frames" if frames is None else "actions"
            raise ValueError(f"reset option {missing!r} is missing; a past is 'frames' (K, ...) and 'actions' (K - 1,)")
        frames, actions = np.asarray(frames), np.asarray(actions)
        shape = self.observation_space.shape
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
            right = f"(K, {shape[0]}, {shape[1]}, 3) uint8 with K >= 1"
            raise ValueError(f"reset option 'frames' is {frames.shape} {frames.dtype}; give {right}")
        right = (len(frames) - 1, *(self.action_space.shape or ()))
        if actions.shape != right:
            raise ValueError(f"reset option 'actions' has shape {actions.shape}; {len(frames)} frames need {right}")
        if not actions.size:
            actions = np.zeros(right, self.action_space.dtype)
        self.actions.encode(actions)
        return frames, actions

    def _images(self, frames: np.ndarray):
        return self._tensor(np.moveaxis(frames, -1, 1)[None])

    def _vectors(self, actions: np.ndarray):
        return self._tensor(self.actions.encode(actions)[None])

    def _tensor(self, array: np.ndarray):
        import torch

        return torch.from_numpy(np.array(array, order="C"))

    def _info(self) -> dict[str, Any]:
        return {"step": self._count, "steps": self._steps, "start": self._start}

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        if self._viewer is None:
            from worldsim.window import Viewer

            title, fps = f"worldsim: {self.model.info.name}", self.metadata["render_fps"]
            self._viewer = Viewer(title, self._frame.shape[:2], fps)
        self._viewer.show(self._frame)


def _limit(asked: int | None, world: int | None) -> int | None:
    if asked is None:
        return world
    if asked == NO_LIMIT:
        return None
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ValueError(f"max_episode_steps={asked!r}; give a number of frames from 1, None or -1 for no limit")
    return asked
