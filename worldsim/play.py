"""The player: held keys to actions to frames, at the world's own pace."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import gymnasium as gym
import numpy as np

from worldsim.arguments import natural, positive
from worldsim.window import NoDisplay, Status, Window, open_display

WORLD = "worldsim/World-v0"  # any world, by name or folder
CLIPS = Path("worldsim_clips")
CLIP_SECONDS = 20
REFRESH_S = 0.25  # figures that change faster cannot be read


class Pacer:
    """The clock of the game: full speed where the model keeps up, smoothly slower where it does not.

    A turn that came late moves all later ones; nothing is ever caught up. fps: full speed, frames per second.
    """

    def __init__(
        self, fps: float, *, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.fps = fps
        self.period_s = 1 / fps
        """Time from one frame to the next at the present speed."""
        self._now, self._sleep = now, sleep
        self._worked_s: deque[float] = deque(maxlen=15)
        self._due = now()

    def wait(self) -> None:
        """Sleep until the next frame is due."""
        rest = self._due - self._now()
        if rest > 0:
            self._sleep(rest)
        self._due = max(self._due, self._now()) + self.period_s

    def worked(self, seconds: float) -> None:
        """Take note of how long a frame took. One slow frame changes nothing, a slow model slows the game gently."""
        self._worked_s.append(seconds)
        needed = max(1 / self.fps, statistics.median(self._worked_s))
        self.period_s += 0.2 * (needed - self.period_s)


class Player:
    """One person, one window, one environment.

    env:    offers WorldEnv's `reset`, `paint`, `commit`, `actions`, `steps` and `metadata`.
    window: offers `poll() -> Keys` and `show(frame, status)`.
    fps:    full speed; None takes the environment's own.
    seed:   of the first round; each new round takes the next.
    """

    def __init__(self, env, window, *, fps: float | None = None, seed: int = 0) -> None:
        self.env, self.window = env, window
        self.pacer = Pacer(fps or env.metadata["render_fps"])
        self.seed = seed - 1
        self._model_s: deque[float] = deque(maxlen=60)
        self._latency_ms: deque[float] = deque(maxlen=240)
        self._figures: dict = {}
        self._figures_due = 0.0
        self._warm_up()
        self._new_round()

    def run(self) -> None:
        """Play until the player quits."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Wait, read the keys, paint at most one frame, show it, then commit it. False when the player quits."""
        self.pacer.wait()
        keys = self.window.poll()
        read = time.perf_counter()
        for command in keys.commands:
            if command == "quit":
                return False
            self._obey(command)
        if self.mode == "play" or (self.mode == "pause" and "single" in keys.commands):
            self._paint_and_show(keys.held, read)
            self.pacer.worked(time.perf_counter() - read)
        else:
            self.window.show(self.frame, self._status(keys.held))
        return True

    def _obey(self, command: str) -> None:
        if command == "reset":
            self._new_round()
        elif command == "pause" and self.mode != "over":
            self.mode = "play" if self.mode == "pause" else "pause"
        elif command.isdigit():
            with contextlib.suppress(ValueError):  # a world may know fewer step counts than there are keys
                self.env.steps = int(command)
            self._model_s.clear()
            self._latency_ms.clear()

    def _new_round(self) -> None:
        self.seed += 1
        self.frame, _ = self.env.reset(seed=self.seed)
        self.mode, self.score, self.step = "play", 0.0, 0

    def _warm_up(self) -> None:
        """Paint a frame that nobody sees: the first one takes several times as long."""
        self.env.reset(seed=0)
        self.env.step(self.env.actions.decode(self.env.actions.from_keys(())))

    def _paint_and_show(self, held: frozenset[str], read: float) -> None:
        """Shown first, committed after: the picture need not wait for the memory."""
        actions = self.env.actions
        started = time.perf_counter()
        self.frame = self.env.paint(actions.decode(actions.from_keys(held)))
        painted = time.perf_counter()
        self.window.show(self.frame, self._status(held))
        shown = time.perf_counter()
        reward, terminated, truncated, _ = self.env.commit()
        self._model_s.append(time.perf_counter() - shown + painted - started)
        self._latency_ms.append(1000 * (shown - read))
        self.score += reward
        self.step += 1
        if terminated or truncated:
            self.mode = "over"

    def _status(self, held: frozenset[str]) -> Status:
        now = time.perf_counter()
        if now >= self._figures_due:
            self._figures, self._figures_due = self._measured(), now + REFRESH_S
        steps = self.env.steps
        return Status(self.mode, self.score, self.step, steps, self.seed, held, **self._figures)

    def _measured(self) -> dict:
        return {
            "model_fps": 1 / statistics.fmean(self._model_s) if self._model_s else None,
            "game_fps": 1 / self.pacer.period_s,
            "full_fps": self.pacer.fps,
            "latency_ms": tuple(np.percentile(self._latency_ms, (50, 95)).tolist()) if self._latency_ms else None,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim play`."""
    parser.add_argument("world", nargs="?", default="boxing", help="a shipped world or a folder (default: boxing)")
    parser.add_argument("--steps", type=int, help="denoising steps a frame: 1, 2 or 4 (default: the world's own)")
    parser.add_argument("--fps", type=positive(float), help="full speed, frames per second (default: the game's own)")
    parser.add_argument("--scale", type=positive(int), help="screen pixels a game pixel (default: suits the screen)")
    parser.add_argument("--seed", type=natural, help="of the first round (default: a new one each time)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Open the window and play; without a screen say so in one line and record a clip instead."""
    # Threads that wait by spinning stall for seconds where another program wants the same cores. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        open_display()
    except NoDisplay as reason:
        print(f"worldsim play: no display ({reason}); recording a {CLIP_SECONDS}-second clip instead", file=sys.stderr)
        return record_instead(args)
    print(f"loading {args.world} ...", file=sys.stderr)
    env = gym.make(WORLD, world=args.world, steps=args.steps, device=args.device).unwrapped
    seed = secrets.randbelow(10_000) if args.seed is None else args.seed
    keys = tuple(dict.fromkeys(name for names in env.actions.keys.values() for name in names))
    window = Window(env.model.info.name.title(), env.observation_space.shape[:2], keys, scale=args.scale)
    try:
        Player(env, window, fps=args.fps, seed=seed).run()
    finally:
        window.close()
        env.close()
    return 0


def record_instead(args: argparse.Namespace) -> int:
    """Run the `record` command, found as the command line finds it, into ./worldsim_clips. Returns its exit status."""
    found = entry_points(group="worldsim.commands", name="record")
    if not found:
        raise ModuleNotFoundError("the record command is not installed; reinstall worldsim")
    record = next(iter(found)).load()
    parser = argparse.ArgumentParser(prog="worldsim record")
    record.add_arguments(parser)
    out = CLIPS / f"{Path(args.world).name}.mp4"
    asked = [args.world, "--seconds", str(CLIP_SECONDS), "--out", str(out)]
    for option in ("seed", "steps", "device"):
        value = vars(args)[option]
        asked += [] if value is None else [f"--{option}", str(value)]
    return record.run(parser.parse_args(asked))
