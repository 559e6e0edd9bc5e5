"""Play without a window: a script of keys in, a clip and the score out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worldsim.player.clip import write_clip
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


def report(session: Session, clip: Path | None) -> str:
    """One line on the round; where a clip is asked for, it is written first."""
    timeline = session.timeline
    if clip is not None:
        write_clip(clip, timeline.frames(), session.env.metadata["render_fps"])
    end = ", round over" if timeline.over else ""
    where = f", clip {clip}" if clip is not None else ""
    return f"seed {timeline.seed}: {len(timeline)} frames, score {timeline.score:+g}{end}{where}"
