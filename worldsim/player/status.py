"""What the game tells the screen beside the picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """What there is to say beside the picture."""

    mode: str
    """One of "play", "pause", "help", "over", "rewind", "repaint"; "help" is a pause while the keys are shown."""
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
    """Who plays: "you", "random" or "agent"."""
    slot: int = 1
    recording: bool = False
    note: str = ""
    model_fps: float | None = None
    """Speed of the network alone: paint and commit; None before it is measured."""
    captions: tuple[str, ...] = ()
    """Of the panes in the picture, from left to right; empty where it is one."""
    real: bool = False
    """The game is the source itself, which no network paints."""
    doubt: float | None = None
    """How strange the last frames are to the network, in grey levels; None where it does not tell."""
