"""One round of one environment that can be taken back, saved, loaded and painted again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from worldsim.player.timeline import Timeline

KEEP_EVERY = 8
"""Frames between two kept states. Each is a copy of the world's memory, about 5 MB in Boxing; frames between them are
painted again, to the same bytes, where a rewind ends."""
REWIND_FRAMES = 192
"""Frames that can be taken back at least."""


class Session:
    """The round in play.

    env: offers WorldEnv's reset, paint, commit, save_state, load_state, fork, steps, actions, conditions.
    """

    def __init__(self, env, *, seed: int = 0, past: Mapping[str, Any] | None = None) -> None:
        self.env = env
        self.new_round(seed, past)

    def new_round(self, seed: int, past: Mapping[str, Any] | None = None) -> None:
        """Begin the round of that seed. past: the reset options to begin from, None for what the seed draws."""
        self.frame, _ = self.env.reset(seed=seed, options=past)
        self.timeline = Timeline.of(seed, self.frame, past, self.env.conditions)
        self.doubt: float | None = None
        """How strange the past last was to the network, in grey levels; None where it was not asked yet."""
        self._kept: dict[int, Any] = {}

    def fork(self) -> Session:
        """Another session with the same past and a future of its own."""
        twin = copy.copy(self)
        (twin.env,) = self.env.fork(1)
        twin.timeline, twin._kept = self.timeline.copy(), dict(self._kept)
        return twin

    def paint(self, action: Any) -> np.ndarray:
        """The next frame (H, W, 3) uint8, ready to be shown; `commit` must follow."""
        if not self._kept:
            self._keep()
        holds = self.env.conditions
        self.frame = self.env.paint(action)
        self._action, self._holds = action, holds
        return self.frame

    def ask_doubt(self) -> None:
        """Ask the network how strange the painted frame's past is to it; before `commit`."""
        self.doubt = self.env.doubt()

    def commit(self) -> None:
        """Remember the painted frame."""
        reward, terminated, truncated, _ = self.env.commit()
        over = terminated or truncated
        ends = {"over": over, "ended": terminated}
        self.timeline.add(self._action, self.env.steps, self.frame, reward, **ends, holds=self._holds)
        if not over and len(self.timeline) % KEEP_EVERY == 0:
            self._keep()

    def earliest(self) -> int:
        """First frame that the round can be taken back to."""
        return min(self._kept, default=len(self.timeline))

    def back_to(self, length: int) -> None:
        """Take the round back to its first `length` actions, from `earliest()` on; it goes on bit for bit from there.

        At most `KEEP_EVERY - 1` frames are painted again.
        """
        if length == len(self.timeline):
            return
        steps = self.env.steps
        near = max(index for index in self._kept if index <= length)
        self.env.load_state(self._kept[near])
        for index in range(near, length):
            self.env.steps = self.timeline.steps[index]
            self._again(self.env, index)
        self.env.steps = steps
        self.timeline.cut(length)
        self._kept = {index: state for index, state in self._kept.items() if index <= length}
        self.frame = self.timeline.frame(length)

    def snapshot(self) -> tuple[Any, Timeline]:
        """The environment's state and how the round came to it; `restore` goes on from there."""
        return self.env.save_state(), self.timeline.copy()

    def restore(self, state: Any, timeline: Timeline) -> None:
        """Go on from a snapshot; the state may be its file.

        Raises ValueError or FileNotFoundError in one line where it is damaged or another world's, and changes nothing.
        """
        self.frame, _ = self.env.load_state(state)
        self.timeline, self._kept = timeline.copy(), {}

    def repaint(self, frames: int) -> Iterator[tuple[int, np.ndarray]]:
        """Index and frame (H, W, 3) of the last frames, painted again in the most steps the world knows.

        The same past, actions and random generators, in a world beside this one, which stays as it is. frames: how many
        at least, where so many can be taken back. ValueError in one line where there is none.
        """
        late = [index for index in self._kept if index <= len(self.timeline) - frames]
        first = max(late, default=self.earliest())
        if first == len(self.timeline):
            raise ValueError("there is nothing to repaint yet; play some frames first")
        (beside,) = self.env.fork(1)
        beside.load_state(self._kept[first])
        beside.steps = most_steps(self.env)
        for index in range(first, len(self.timeline)):
            yield index + 1, self._again(beside, index)

    def _again(self, env, index: int) -> np.ndarray:
        """Take one of the round's actions once more, under what held then: the frame."""
        if env.conditions != self.timeline.holds[index]:
            env.conditions = self.timeline.holds[index]
        return env.step(self.timeline.actions[index])[0]

    def _keep(self) -> None:
        now = len(self.timeline)
        self._kept[now] = self.env.save_state()
        oldest = now - REWIND_FRAMES - KEEP_EVERY + 1
        self._kept = {index: state for index, state in self._kept.items() if index >= oldest}


def most_steps(env) -> int:
    """The world's slowest and finest way to paint."""
    return max(env.model.info.step_choices)
