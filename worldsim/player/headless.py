"""Play without a window: a script of keys in, a clip and the score out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from worldsim.player.recorder import Recorder
from worldsim.player.session import Session


def play(env, actions: Iterable[Any], *, seed: int, past: Mapping[str, Any] | None = None) -> Session:
    """A round of that seed under the source game's own actions, as far as the episode goes.

    past: the reset options to begin from, None for what the seed draws.
    """
    session = Session(env, seed=seed, past=past)
    for action in actions:
        session.paint(action)
        session.commit()
        if session.timeline.over:
            break
    return session


def write(session: Session, clip: Path, *, world: str, device: str, replay: bool = True) -> None:
    """Write the whole round as a clip, and beside it the replay file, which a real game has none of.

    world, device: as the environment was asked for.

    Raises OSError where they cannot be written.
    """
    recorder = Recorder()
    recorder.start(session.timeline, first=0)
    if replay:
        recorder.stop(clip, session.env, world=world, device=device)
    else:
        recorder.stop_clip(clip, session.env)


def report(session: Session) -> str:
    """One line on the round."""
    timeline = session.timeline
    end = ", round over" if timeline.over else ""
    return f"seed {timeline.seed}: {len(timeline)} frames, score {timeline.score:+g}{end}"
