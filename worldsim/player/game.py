"""The game's side of the player: a turn reads the keys, paints at most one frame and hands it on."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldsim.player import controls
from worldsim.player.clip import usual_suffix, write_strip
from worldsim.player.controls import Keys, RandomHands
from worldsim.player.pacer import Pacer
from worldsim.player.recorder import Recorder
from worldsim.player.saves import SLOTS, Slots
from worldsim.player.session import Session, most_steps

SPEEDS = (1.0, 0.5, 0.25)
REPAINT_S = 4
NOTE_S = 4


@dataclass(frozen=True)
class Status:
    """What there is to say beside the picture."""

    mode: str
    """One of "play", "pause", "over", "rewind", "repaint"."""
    score: float
    step: int
    """Frames since the round began."""
    steps: int
    """Denoising steps a frame."""
    window_frames: int
    """Frames that the network remembers."""
    seed: int
    game_fps: float
    """Present speed of the game; `full_fps` is what it should be, less in slow motion."""
    full_fps: float
    held: frozenset[str] = frozenset()
    hands: str = "you"
    """Who plays: "you" or "random"."""
    slot: int = 1
    recording: bool = False
    note: str = ""
    model_fps: float | None = None
    """Speed of the network alone: paint and commit; None before it is measured."""


@dataclass(frozen=True)
class Folders:
    """Where files go: clips and strips by default into the folder the program runs in, saves into the user's own."""

    clips: Path = Path("worldsim_clips")
    saves: Path | None = None


Show = Callable[[np.ndarray, Status], None]


class Game:
    """The rounds of one environment under a player's keys.

    env:    offers what `Session` needs, and `metadata` and `model`.
    world, device: as the environment was asked for, for the replay file.
    fps:    full speed; None takes the environment's own.
    seed:   of the first round; each new round takes the next.
    record: the clip to write; recording begins at once. None waits for the key and chooses a name.
    """

    def __init__(
        self,
        env,
        *,
        world: str,
        device: str = "cpu",
        fps: float | None = None,
        seed: int = 0,
        record: Path | None = None,
        folders: Folders | None = None,
    ) -> None:
        self.env, self._world, self._device = env, world, device
        self._full_fps = fps or env.metadata["render_fps"]
        self.pacer = Pacer(self._full_fps)
        self._folders = folders or Folders()
        self._slots = Slots(env.model, self._folders.saves)
        self._recorder, self._clip = Recorder(), record
        self._model_s: deque[float] = deque(maxlen=60)
        self._random: RandomHands | None = None
        self._slot, self._speed, self._paused = 1, 1.0, False
        self._rewound: int | None = None
        self._note, self._note_until = "", 0.0
        self._held: frozenset[str] = frozenset()
        self._warm_up(seed)
        if record is not None:
            self._recorder.start(self.session.timeline)

    def turn(self, keys: Keys, show: Show) -> None:
        """Obey the commands, then paint at most one frame under the keys; `show` gets it before it is committed."""
        self._held = keys.active
        for command in keys.commands:
            self._obey(command, show)
        if controls.REWIND in keys.active:
            self._rewind()
        elif self._rewound is not None:
            self._land()
        if self.mode == "play" or (self.mode == "pause" and "single" in keys.commands):
            self._paint(keys, show)
        else:
            show(self.picture, self.status())

    def close(self) -> None:
        """Write what is being recorded; raises what keeps it from being written."""
        if self._recorder.running:
            self._record()

    @property
    def mode(self) -> str:
        """What the next turn does: "play", "pause", "over" or "rewind"."""
        if self._rewound is not None:
            return "rewind"
        return "over" if self.session.timeline.over else "pause" if self._paused else "play"

    @property
    def picture(self) -> np.ndarray:
        """The frame (H, W, 3) uint8 to be looked at now."""
        return self.session.frame if self._rewound is None else self.session.timeline.frame(self._rewound)

    def status(self, mode: str | None = None) -> Status:
        """What there is to say now."""
        timeline = self.session.timeline
        step = len(timeline) if self._rewound is None else self._rewound
        return Status(
            mode or self.mode,
            score=sum(timeline.rewards[:step]),
            step=step,
            steps=self.env.steps,
            window_frames=self.env.model.info.window_frames,
            seed=timeline.seed,
            game_fps=1 / self.pacer.period_s,
            full_fps=self.pacer.fps,
            held=self._held,
            hands="random" if self._random else "you",
            slot=self._slot,
            recording=self._recorder.running,
            note=self._note if time.monotonic() < self._note_until else "",
            model_fps=1 / statistics.fmean(self._model_s) if self._model_s else None,
        )

    # --- painting ---

    def _warm_up(self, seed: int) -> None:
        """Paint a frame that nobody sees: the first one takes several times as long."""
        self.env.reset(seed=0)
        self.env.step(self.env.actions.decode(self.env.actions.from_keys(())))
        self.session = Session(self.env, seed=seed)

    def _paint(self, keys: Keys, show: Show) -> None:
        """Shown first, committed after: the picture need not wait for the memory."""
        actions = self.env.actions
        action = self._random.act() if self._random else actions.decode(controls.vector(actions, keys))
        started = time.perf_counter()
        frame = self.session.paint(action)
        show(frame, self.status())
        self.session.commit()
        self._model_s.append(time.perf_counter() - started)
        self.pacer.worked(self._model_s[-1])

    # --- commands ---

    def _obey(self, command: str, show: Show) -> None:
        try:
            if command.isdigit():
                self._set_steps(int(command))
            elif command == "repaint":
                self._repaint(show)
            elif command in self._COMMANDS:
                self._COMMANDS[command](self)
        except (ValueError, OSError, ImportError) as error:
            self._say(" ".join(str(error).split()))

    def _say(self, note: str) -> None:
        self._note, self._note_until = note, time.monotonic() + NOTE_S

    def _set_steps(self, steps: int) -> None:
        self.env.steps = steps
        self._model_s.clear()

    def _pause(self) -> None:
        if not self.session.timeline.over:
            self._paused = not self._paused

    def _slower(self) -> None:
        self._speed = SPEEDS[(SPEEDS.index(self._speed) + 1) % len(SPEEDS)]
        self.pacer.retime(self._full_fps * self._speed)
        self._say(f"speed {self._speed:g}")

    def _new_round(self) -> None:
        self._leave_rewind()
        self._paused = False
        self.session.new_round(self.session.timeline.seed + 1)
        self._recorder.follow(self.session.timeline)

    def _swap_hands(self) -> None:
        if self._random:
            self._random = None
        else:
            self._random = RandomHands(self.env.actions, np.random.default_rng(self.session.timeline.seed))

    def _next_slot(self) -> None:
        self._slot = self._slot % SLOTS + 1
        self._say(f"slot {self._slot} of {SLOTS}")

    def _save(self) -> None:
        self._leave_rewind()
        self._slots.save(self._slot, *self.session.snapshot())
        self._say(f"saved in slot {self._slot}")

    def _load(self) -> None:
        self.session.restore(*self._slots.load(self._slot))
        self._rewound = None
        self._recorder.follow(self.session.timeline)
        self._say(f"loaded slot {self._slot}")

    def _record(self) -> None:
        if not self._recorder.running:
            self._recorder.start(self.session.timeline)
            return
        self._leave_rewind()
        clip = self._clip or self._named("play", usual_suffix())
        self._recorder.stop(clip, self.env, world=self._world, device=self._device)
        self._clip = None
        self._say(f"saved {clip} and its replay")

    def _repaint(self, show: Show) -> None:
        """Paint the last seconds again in the most steps, showing them, and save both as a strip."""
        self._leave_rewind()
        most, timeline = most_steps(self.env), self.session.timeline
        indices, fine = [], []
        for index, frame in self.session.repaint(round(REPAINT_S * self.env.metadata["render_fps"])):
            indices.append(index)
            fine.append(frame)
            self._say(f"the last seconds again in {most} steps, frame {index} of {len(timeline)}")
            show(frame, self.status("repaint"))
        if not fine:
            raise ValueError("there is nothing to repaint yet; play some frames first")
        played = sorted({timeline.steps[index - 1] for index in indices})
        label = f"as played, {' or '.join(map(str, played))} steps"
        rows = {label: [timeline.frame(index) for index in indices], f"the same actions, {most} steps": fine}
        strip = self._named("strip", ".png")
        title = f"{self.env.model.info.name.title()}, frames {indices[0]} to {indices[-1]} of seed {timeline.seed}"
        write_strip(strip, rows, title)
        self._say(f"saved {strip}")

    def _named(self, kind: str, suffix: str) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return self._folders.clips / f"{self.env.model.info.name}-{kind}-{stamp}{suffix}"

    # --- rewinding ---

    def _rewind(self) -> None:
        now = len(self.session.timeline) if self._rewound is None else self._rewound
        self._rewound = max(now - 1, self.session.earliest())

    def _land(self) -> None:
        self.session.back_to(self._rewound)
        self._recorder.follow(self.session.timeline)
        self._rewound = None

    def _leave_rewind(self) -> None:
        if self._rewound is not None:
            self._land()

    _COMMANDS = {
        "pause": _pause, "slower": _slower, "new": _new_round, "hands": _swap_hands, "slot": _next_slot,
        "save": _save, "load": _load, "record": _record,
    }  # fmt: skip
