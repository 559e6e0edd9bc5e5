"""The game's side of the player: a turn reads the keys, paints at most one frame and hands it on."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim.player import controls
from worldsim.player.clip import usual_suffix
from worldsim.player.controls import Keys
from worldsim.player.drift import Drift
from worldsim.player.episodes import EpisodeWriter
from worldsim.player.folders import Folders
from worldsim.player.fork import Fork
from worldsim.player.hands import YOU, Agent, Hands
from worldsim.player.note import Note
from worldsim.player.pacer import Pacer
from worldsim.player.panes import beside
from worldsim.player.recorder import Recorder
from worldsim.player.repaint import Repaint
from worldsim.player.saves import SLOTS, Slots
from worldsim.player.session import Session
from worldsim.player.starts import Start, Starts
from worldsim.player.status import Status
from worldsim.player.truth import Truth

SPEEDS = (1.0, 0.5, 0.25)
REPAINT_S = 4

Show = Callable[[np.ndarray, Status], None]


class Game:
    """The rounds of one environment under a player's keys.

    env:    offers what `Session` needs, and `metadata` and `model`.
    world, device: as the environment was asked for, for the replay file.
    fps:    full speed; None takes the environment's own.
    seed:   of the first round; each new round takes the next.
    record: the clip to write; recording begins at once. None waits for the key and chooses a name.
    actions: of the world with the player's own keys; None takes the world's.
    starts: where rounds begin; None lets the seed draw.
    load_agent: loads a trained player who can take over, once for each future of a fork, so that each remembers its own
            frames. None where there is none.
    open_real: starts the source game, to be shown beside; its errors are shown as one line. None where there is none.
    episodes: takes every round when the player leaves it; None keeps none.
    real:   the environment is the source game itself, which has no network and keeps no quick saves.
    drift:  tell how strange the past is to the network, where there is time to ask.
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
        actions: ActionSpec | None = None,
        starts: Starts | None = None,
        load_agent: Callable[[], Agent] | None = None,
        open_real: Callable[[], Any] | None = None,
        episodes: EpisodeWriter | None = None,
        real: bool = False,
        drift: bool = False,
    ) -> None:
        self.env, self._world, self._device = env, world, device
        self._actions = actions or env.actions
        self._starts, self._open_real, self._episodes, self._real = starts, open_real, episodes, real
        self._load_agent, self._seed = load_agent, seed
        self._hands, self._others_hands = self._new_hands(0), None
        self._played: set[str] = set()
        self._unkept = 0  # the first frame of the round that no episode of this run holds yet
        self._truth: Truth | None = None
        self._fork: Fork | None = None
        self._again: Repaint | None = None
        self._full_fps = fps or env.metadata["render_fps"]
        self.pacer = Pacer(self._full_fps)
        self._folders = folders or Folders()
        self._slots = Slots(env.model, self._folders.saves)
        self._recorder, self._clip = Recorder(), record
        self._drift = Drift() if drift else None
        self._model_s: deque[float] = deque(maxlen=60)
        self._commit_s: deque[float] = deque(maxlen=60)
        self._slot, self._speed, self._paused, self._reading = 1, 1.0, False, False
        self._rewound: int | None = None
        self._note = Note()
        self._held: frozenset[str] = frozenset()
        self._warm_up(seed)
        if record is not None:
            self._recorder.start(self.session.timeline)

    def turn(self, keys: Keys, show: Show) -> None:
        """Obey the commands, then paint at most one frame under the keys; `show` gets it before it is committed."""
        self._held = keys.active
        for command in keys.commands:
            self._obey(command)
        if controls.REWIND in keys.active:
            self._rewind()
        elif self._rewound is not None:
            self._land()
        if self.mode == "repaint":
            self._paint_again(show)
        elif self.mode == "play" or (self.mode in ("pause", "help") and "single" in keys.commands):
            self._paint(keys, show)
        else:
            self._show(show)

    def close(self) -> None:
        """Write what is being recorded and kept, each even where the other fails; raises what keeps it from being
        written. What was taken back is not kept."""
        self._close_beside()
        self._leave_rewind()
        try:
            if self._recorder.running:
                self._record()
        finally:
            self._keep_episode()

    @property
    def mode(self) -> str:
        """What the next turn does: "play", "pause", "help", "over", "rewind" or "repaint"."""
        if self._rewound is not None:
            return "rewind"
        if self._again:
            return "repaint"
        if self.session.timeline.over:
            return "over"
        return "help" if self._reading else "pause" if self._paused else "play"

    @property
    def picture(self) -> np.ndarray:
        """The frame (H, W, 3) uint8 to be looked at now."""
        return self.session.frame if self._rewound is None else self.session.timeline.frame(self._rewound)

    def status(self, captions: tuple[str, ...] = ()) -> Status:
        """What there is to say now."""
        timeline = self.session.timeline
        return Status(
            self.mode,
            score=self._score,
            step=self._step,
            steps=self.session.env.steps,
            window_frames=self.env.model.info.window_frames,
            seed=timeline.seed,
            game_fps=1 / self.pacer.period_s,
            full_fps=self.pacer.fps,
            held=self._held,
            hands=self._hands.name,
            slot=self._slot,
            recording=self._recorder.running,
            note=self._note.line,
            model_fps=1 / statistics.fmean(self._model_s) if self._model_s else None,
            captions=captions,
            real=self._real,
            doubt=self.session.doubt,
        )

    @property
    def _step(self) -> int:
        return len(self.session.timeline) if self._rewound is None else self._rewound

    @property
    def _score(self) -> float:
        return sum(self.session.timeline.rewards[: self._step])

    # --- painting ---

    def _warm_up(self, seed: int) -> None:
        """Begin, and paint a frame that nobody sees: the first one takes several times as long."""
        self._start = self._starts.present() if self._starts else Start()
        self.session = Session(self.env, seed=seed, past=self._start.past)
        beginning = self.env.save_state()
        self.env.step(self.env.actions.decode(self.env.actions.from_keys(())))
        self.env.load_state(beginning)

    def _paint(self, keys: Keys, show: Show) -> None:
        """Shown first, committed after: the picture need not wait for the memory."""
        self._played.add("human" if self._hands.name == YOU else self._hands.name)
        action = self._hands.act(self.session.frame, controls.vector(self._actions, keys))
        started = time.perf_counter()
        self.session.paint(action)
        if self._fork:
            self._fork.paint(self._others_hands.idle)
        self._show(show, action)
        painted_s = time.perf_counter() - started
        self._look_at_drift(painted_s)
        looked_at = time.perf_counter()
        self.session.commit()
        if self._fork:
            self._fork.commit()
        self._commit_s.append(time.perf_counter() - looked_at)
        self._model_s.append(painted_s + self._commit_s[-1])
        self.pacer.worked(self._model_s[-1])

    def _look_at_drift(self, painted_s: float) -> None:
        """Ask the network for its doubt, where it is wanted and there is time. painted_s: of the frame, so far."""
        needed_s = painted_s + (statistics.median(self._commit_s) if self._commit_s else 0.0)
        if self._drift is not None and self._drift.is_due(needed_s, self.pacer.period_s):
            started = time.perf_counter()
            self.session.ask_doubt()
            self._drift.looked(time.perf_counter() - started)

    def _show(self, show: Show, action: Any = None) -> None:
        """Show the picture, with what stands beside it. action: that led to it, where it is not committed yet."""
        new = action is not None
        if self._truth and new:
            self._truth.follow(action)
        if self._truth:
            panes = self._truth.panes(self.picture, self._score, self._step + new)
        elif self._fork:
            panes = self._fork.panes(self.picture, self._score, self._hands.caption, self._others_hands.told)
        else:
            show(self.picture, self.status())
            return
        show(beside(panes), self.status(tuple(pane.caption for pane in panes)))

    # --- commands ---

    def _obey(self, command: str) -> None:
        """Obey, but for the window's own commands; each that is obeyed ends a repaint."""
        if command not in self._COMMANDS and not command.isdigit():
            return
        if self._leave_repaint() and command == "repaint":
            return
        with self._note.errors():
            if command.isdigit():
                self._set_steps(int(command))
            else:
                self._COMMANDS[command](self)

    def _set_steps(self, steps: int) -> None:
        if self._real:
            raise ValueError("the real game has no network; 1, 2 and 4 are for imagined ones")
        self.session.env.steps = steps
        if self._fork:
            self._fork.other.env.steps = steps
        self._model_s.clear()

    def _pause(self) -> None:
        if not self.session.timeline.over:
            self._paused = not self._paused

    def _read_help(self) -> None:
        self._reading = not self._reading

    def _slower(self) -> None:
        self._speed = SPEEDS[(SPEEDS.index(self._speed) + 1) % len(SPEEDS)]
        self.pacer.retime(self._full_fps * self._speed)
        self._note.say(f"speed {self._speed:g}")

    def _new_round(self) -> None:
        self._begin(self._starts.present() if self._starts else Start())

    def _next_start(self) -> None:
        if self._starts is None:
            raise ValueError("this game has no list of starts; N begins a new round")
        start = self._starts.following()
        self._begin(start)
        self._note.say(start.name)

    def _begin(self, start: Start) -> None:
        """A new round of the next seed; beside the real game, where that is shown."""
        self._leave_rewind()
        self._close_fork()
        self._keep_episode()
        self._paused = False
        seed = self.session.timeline.seed + 1
        self._start = self._truth.begin(seed, start) if self._truth else start
        self.session.new_round(seed, self._start.past)
        self._hands.forget()
        self._unkept = 0
        self._recorder.follow(self.session.timeline)

    def _next_condition(self) -> None:
        """Let the next value of the first condition hold, such as an NPC's next temperament, from the next frame on."""
        env, groups = self.session.env, self._actions.conditions
        if self._real or not groups:
            raise ValueError("the real game has its own" if groups else "there are no temperaments in this world")
        if self.mode in ("rewind", "over"):
            first = "let Backspace go" if self.mode == "rewind" else "begin a new round with N"
            raise ValueError(f"the temperament changes only in play; {first} first")
        group = next(iter(groups))
        chosen = controls.next_value(self._actions, group, env.conditions[group])
        env.conditions = {group: chosen}
        self._note.say(f"temperament: {chosen}" + (", in the imagined game" if self._truth else ""))

    def _keep_episode(self) -> None:
        if self._episodes is not None:
            self._episodes.add(self.session.timeline, "+".join(sorted(self._played)), first=self._unkept)
        self._played, self._unkept = set(), len(self.session.timeline)

    def _swap_hands(self) -> None:
        self._hands.swap()
        self._note.say(self._hands.note)

    # --- beside ---

    def _show_truth(self) -> None:
        if self._truth:
            self._close_truth()
            return
        if self._open_real is None:
            raise ValueError("this is the real game already" if self._real else "no real game is known here")
        self._close_fork()
        self._truth = Truth(self._open_real())
        known = self._start.real is not None
        try:
            self._begin(self._start)
        except (ValueError, OSError, ImportError):
            self._close_truth()
            raise
        why = "" if known else ": how the real game came to the other start is not known"
        self._note.say(f"a new round from {self._start.name}{why}")

    def _show_fork(self) -> None:
        if self._real:
            raise ValueError("the real game has one future; fork the imagined one")
        if self._fork:
            self._close_fork()
            return
        self._others_hands = self._others_hands or self._new_hands(1)
        self._others_hands.forget()
        self._leave_rewind()
        self._close_truth()
        self._fork = Fork(self.session)
        self._note.say("two futures; X takes the other one, K goes on with yours alone")

    def _new_hands(self, future: int) -> Hands:
        """Who plays in future 0 or 1: with chances and an agent of its own."""
        return Hands(self._actions, self._load_agent() if self._load_agent else None, self._seed + future)

    def _swap_futures(self) -> None:
        if not self._fork:
            raise ValueError("there is one future; K forks it")
        self._leave_rewind()
        self.session = self._fork.swap(self.session)
        self._hands, self._others_hands = self._others_hands, self._hands
        self._recorder.follow(self.session.timeline)

    def _close_fork(self) -> None:
        self._fork = None
        self.env = self.session.env

    def _close_truth(self) -> None:
        if self._truth:
            self._truth.close()
        self._truth = None

    def _close_beside(self) -> None:
        self._close_fork()
        self._close_truth()

    def _next_slot(self) -> None:
        self._slot = self._slot % SLOTS + 1
        self._note.say(f"slot {self._slot} of {SLOTS}")

    def _save(self) -> None:
        self._leave_rewind()
        if self._real:
            raise ValueError("the real game keeps no quick saves; Backspace takes it back")
        self._slots.save(self._slot, *self.session.snapshot())
        self._note.say(f"saved in slot {self._slot}")

    def _load(self) -> None:
        if self._real:
            raise ValueError("the real game keeps no quick saves; Backspace takes it back")
        saved = self._slots.load(self._slot)
        self._leave_rewind()
        self._keep_episode()
        self.session.restore(*saved)
        self._hands.forget()
        self._unkept = len(self.session.timeline)  # what led there was kept with the round it was of
        self._start = Start("a saved game", self.session.timeline.past)
        self._close_beside()
        self._recorder.follow(self.session.timeline)
        self._note.say(f"loaded slot {self._slot}")

    def _record(self) -> None:
        if not self._recorder.running:
            self._recorder.start(self.session.timeline)
            return
        self._leave_rewind()
        clip = self._clip or self._folders.new(self.env.model.info.name, "play", usual_suffix())
        if self._real:
            self._recorder.stop_clip(clip, self.env)
        else:
            self._recorder.stop(clip, self.env, world=self._world, device=self._device)
        self._clip = None
        self._note.say(f"saved {clip}" + ("" if self._real else " and its replay"))

    # --- repainting ---

    def _repaint(self) -> None:
        """Begin to paint the last seconds again in the most steps, a frame a turn."""
        if self._real:
            raise ValueError("the real game is not painted; P is for imagined ones")
        self._leave_rewind()
        self._again = Repaint(self.session, round(REPAINT_S * self.env.metadata["render_fps"]))

    def _paint_again(self, show: Show) -> None:
        """Show the next frame of the repaint; after the last one, save all as a strip beside what was played."""
        again, self._again = self._again, None
        with self._note.errors():
            frame = again.paint()
            if frame is not None:
                self._again = again
                self._note.say(again.told)
                show(frame, self.status())
                return
            name = self.env.model.info.name
            strip = self._folders.new(name, "strip", ".png")
            again.write(strip, self.env.model.info.title)
            self._note.say(f"saved {strip}")
        self._show(show)

    def _leave_repaint(self) -> bool:
        """Drop what is being repainted; whether anything was."""
        if self._again is None:
            return False
        self._again = None
        self._note.say("repainting was left; nothing is saved")
        return True

    # --- rewinding ---

    def _rewind(self) -> None:
        self._leave_repaint()
        now = len(self.session.timeline) if self._rewound is None else self._rewound
        self._rewound = max(now - 1, self.session.earliest())

    def _land(self) -> None:
        self.session.back_to(self._rewound)
        self._hands.forget()
        self._unkept = min(self._unkept, self._rewound)
        if self._truth:
            self._truth.back_to(self._rewound)
        self._recorder.follow(self.session.timeline)
        self._rewound = None

    def _leave_rewind(self) -> None:
        if self._rewound is not None:
            self._land()

    _COMMANDS = {
        "pause": _pause, "slower": _slower, "new": _new_round, "hands": _swap_hands, "slot": _next_slot,
        "save": _save, "load": _load, "record": _record, "start": _next_start,
        "condition": _next_condition, "truth": _show_truth, "fork": _show_fork, "swap": _swap_futures,
        "help": _read_help, "repaint": _repaint, "leave": _leave_repaint,
    }  # fmt: skip
