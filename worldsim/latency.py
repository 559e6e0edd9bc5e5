"""How a scripted session feels: latency, late frames, cold start and memory, as JSON.

    SDL_VIDEODRIVER=dummy python -m worldsim.latency boxing --minutes 10 [--compile]
    xvfb-run -a python -m worldsim.latency boxing --minutes 30 --json session.json

The window, the two threads and the game are the player's own; keys are pressed and let go by a script that the seed
draws, and a round that is over gives way to the next. A slow machine slows the game: `fps_promised` is the speed that
the game said it holds, on average, and a frame is late against what was said when it was painted. Latency runs from the
script's time of a key change, which the next look meets up to a few milliseconds later, to the return of the call that
shows the frame. The cold start begins before the interpreter does and ends with the first frame shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldsim.arguments import make_room_for, positive
from worldsim.cli import one_line, warnings_in_one_line
from worldsim.player.controls import Keys, key_names
from worldsim.resident import resident_mb

HOLD_S = (0.1, 0.8)
"""Shortest and longest time between two key changes of the script."""
SAMPLE_S = 2.0


class Fingers:
    """A window whose keys a script presses; quits after so many seconds of play.

    window: the player's own; actions: of the world; began: `time.time()` of the cold start.
    """

    def __init__(self, window, actions, *, seconds: float, seed: int, began: float) -> None:
        self._window, self._names = window, key_names(actions)
        self._rng = np.random.default_rng(seed)
        self._began, self._seconds = began, seconds
        self._held: set[str] = set()
        self._due = self._end = self._sample_due = float("inf")
        self._over = self._renew = False
        self.cold_start_s: float | None = None
        self.memory: list[tuple[float, float]] = []
        """Seconds since the first frame, and megabytes of memory then."""
        self.rounds = 1
        self.promised_fps: list[float] = []
        """What the game said, frame by frame, that it can hold."""
        self.longest_gap_s = 0.0
        """Between two pictures, those of rounds that are over or begin among them."""

    @property
    def played_s(self) -> float:
        """From the first picture to the last."""
        return self._shown - self._start

    def poll(self) -> Keys:
        """Press or let go what is due, then look, as the player's window does."""
        now, changed_at = time.perf_counter(), None
        if now >= self._end:
            return Keys(commands=("quit",))
        if now >= self._due:
            self._change(self._names[self._rng.integers(len(self._names))])
            changed_at, self._due = self._due, now + self._rng.uniform(*HOLD_S)
        if now >= self._sample_due:
            self._sample(now)
        keys = replace(self._window.poll(), changed_at=changed_at)
        renew, self._renew = self._renew, False  # once a round, as a player would
        return replace(keys, commands=(*keys.commands, "new")) if renew else keys

    def show(self, frame: np.ndarray, status, figures) -> None:
        """Show a frame; the first one starts the clock."""
        self._window.show(frame, status, figures)
        now = time.perf_counter()
        over = status.mode == "over"
        begins = over and not self._over
        self._over, self._renew, self.rounds = over, self._renew or begins, self.rounds + begins
        if self.cold_start_s is None:
            self.cold_start_s = time.time() - self._began
            self._start = self._due = self._sample_due = self._shown = now
            self._end = now + self._seconds
        self.longest_gap_s = max(self.longest_gap_s, now - self._shown)
        self._shown = now
        self.promised_fps.append(status.game_fps)

    def _change(self, name: str) -> None:
        import pygame

        kind = pygame.KEYUP if name in self._held else pygame.KEYDOWN
        self._held ^= {name}
        pygame.event.post(pygame.event.Event(kind, key=pygame.key.key_code(name)))

    def _sample(self, now: float) -> None:
        self.memory.append((now - self._start, resident_mb()))
        self._sample_due = now + SAMPLE_S


def growth(memory: list[tuple[float, float]]) -> dict[str, float]:
    """Megabytes at the beginning, at the end and at most, and how many a minute their low points grow in the second
    half: the least of each of its fifths, because the history of a round is kept until the next one begins."""
    seconds, used = np.array(memory).T
    late = seconds >= seconds[-1] / 2
    fifths = np.array_split(np.array(memory)[late], 5)
    lows = [(part[:, 0].mean(), part[:, 1].min()) for part in fifths if len(part)]
    slope = float(np.polyfit(*np.array(lows).T, 1)[0]) if len(lows) > 2 else 0.0
    told = {"first": used[0], "at_half": used[late][0], "last": used[-1], "most": used.max()}
    return {name: round(float(value), 1) for name, value in told.items()} | {"growth_a_minute": round(60 * slope, 3)}


def measure(args: argparse.Namespace) -> dict:
    """Play the scripted session in this process; returns the figures."""
    from worldsim.play import open_game
    from worldsim.player.loop import LATE, Meter, run
    from worldsim.player.undisturbed import undisturbed
    from worldsim.replay import describe

    game, window = open_game(args)
    fingers = Fingers(window, game.env.actions, seconds=60 * args.minutes, seed=args.seed, began=args.began)
    meter = Meter(keep=None)
    try:
        with undisturbed():
            run(game, fingers, meter)
        driver = window.driver
    finally:
        window.close()
        game.env.close()
    figures = meter.measured()
    p50, p95 = figures.latency_ms or (None, None)
    return {
        "world": args.world,
        "minutes": args.minutes,
        "steps": game.env.steps,
        "engine": None if args.real else game.env.model.engine,
        "threads": None if args.real else describe(game.env.model, args.device)["threads"],
        "video_driver": driver,
        "cold_start_s": round(fingers.cold_start_s, 2),
        "seconds": round(fingers.played_s, 1),
        "rounds": fingers.rounds,
        "frames": meter.counted,
        "fps_asked": game.env.metadata["render_fps"] if args.fps is None else args.fps,
        "fps_promised": round(statistics.harmonic_mean(fingers.promised_fps), 2),
        "fps_shown": round(meter.counted / fingers.played_s, 2),
        "longest_gap_s": round(fingers.longest_gap_s, 2),
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "key_changes": meter.answered,
        "late_share": figures.late,
        "late_is_over_budgets": LATE,
        "memory_mb": growth(fingers.memory),
    }


def main(argv: list[str] | None = None) -> int:
    """Start the session in a process of its own, so that the start is cold, and print its JSON."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    if args.began is None:
        command = [sys.executable, "-m", "worldsim.latency", *given, "--began", repr(time.time())]
        return subprocess.run(command).returncode
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the player has it
    try:
        if args.json is not None:
            make_room_for(args.json)
        with warnings_in_one_line("latency"):
            told = json.dumps(measure(args), indent=1)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"latency: {one_line(error)}", file=sys.stderr)
        return 2
    print(told)
    if args.json is not None:
        args.json.write_text(told + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    from worldsim import play

    parser = argparse.ArgumentParser(prog="python -m worldsim.latency", description=__doc__.partition("\n")[0])
    play.add_arguments(parser)
    parser.set_defaults(world="boxing", seed=0)
    parser.add_argument("--minutes", type=positive(float), default=1.0, help="of play (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
