"""Play without a window: a script of keys in, a clip and the score out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worldsim.player.recorder import Recorder
from worldsim.player.session import Session


def play(env, actions: Iterable[Any], *, seed: int) -> Session:
    """A round of that seed under the source game's own actions, as far as the episode goes."""
    session = Session(env, seed=seed)
    for action in actions:
        session.paint(action)
        session.commit()
        if session.timeline.over:
            break
    return session


def write(session: Session, clip: Path, *, world: str, device: str) -> None:
    """Write the whole round as a clip, and beside it the replay file. world, device: as the environment was asked for.

    Raises OSError where they cannot be written.
    """
    recorder = Recorder()
    recorder.start(session.timeline, first=0)
    recorder.stop(clip, session.env, world=world, device=device)


def report(session: Session) -> str:
    """One line on the round."""
    timeline = session.timeline
    end = ", round over" if timeline.over else ""
    return f"seed {timeline.seed}: {len(timeline)} frames, score {timeline.score:+g}{end}"
