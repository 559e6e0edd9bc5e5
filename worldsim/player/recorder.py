"""What of a session is being recorded, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldsim.player.clip import write_clip
from worldsim.player.timeline import Timeline


@dataclass
class Take:
    """One round that is recorded from its frame `first` to `last`, None while it goes on."""

    timeline: Timeline
    first: int
    last: int | None = None

    def frames(self) -> Iterator[np.ndarray]:
        """What is recorded of it."""
        end = len(self.timeline) if self.last is None else self.last
        return (self.timeline.frame(index) for index in range(self.first, end + 1))


class Recorder:
    """Rounds from the key R to the key R. What is rewound is not in the files: they show the round as it was lived."""

    def __init__(self) -> None:
        self._takes: list[Take] = []
        self.running = False

    def start(self, timeline: Timeline, *, first: int | None = None) -> None:
        """Record this round from that frame on, by default its present one."""
        self._takes, self.running = [Take(timeline, len(timeline) if first is None else first)], True

    def follow(self, timeline: Timeline) -> None:
        """The session goes on in this round: another one, or the same taken back."""
        if not self.running:
            return
        for take in self._takes:
            take.first = min(take.first, len(take.timeline))
            take.last = None if take.last is None else min(take.last, len(take.timeline))
        last = self._takes[-1]
        if last.timeline is not timeline:
            last.last = len(last.timeline)
            self._takes.append(Take(timeline, len(timeline)))

    def stop(self, clip: Path, env, *, world: str, device: str) -> Path:
        """Write the clip, and beside it the replay file, whose path is returned. The replay begins with each round.

        Recording goes on where they cannot be written.
        """
        from worldsim.replay import Replay, Round  # here, because it loads torch

        self.stop_clip(clip, env)
        rounds = [
            Round.of(each.seed, each.actions, each.frames(), each.past, steps=each.steps, changes=each.changes)
            for each in {id(take.timeline): take.timeline for take in self._takes}.values()
        ]
        replay = clip.with_suffix(".replay.json")
        Replay.of(env, rounds, world, device=device).save(replay)
        return replay

    def stop_clip(self, clip: Path, env) -> None:
        """Write the clip alone. Recording goes on where it cannot be written."""
        write_clip(clip, self._frames(), env.metadata["render_fps"])
        self.running = False

    def _frames(self) -> Iterator[np.ndarray]:
        for take in self._takes:
            yield from take.frames()
