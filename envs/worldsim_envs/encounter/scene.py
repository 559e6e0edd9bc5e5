"""The state of Encounter: figures, dice and what just happened."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

LOOKS, PLACES = 4, 3
"""How many looks an NPC can have, and how many backgrounds there are; neither says anything about a temperament."""

PLAYER_LOOK = LOOKS
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants to do in this frame: walk -1 (left), 0 or 1 (right); a gesture, which goes first, or None."""

    walk: int = 0
    gesture: str | None = None


@dataclass(slots=True)
class Figure:
    """One person. Positions in pixels of a 64-pixel frame; `age` counts the frames of the present act from 0."""

    x: int
    facing: int
    """-1 left, 1 right."""
    look: int
    """0..3 an NPC, `PLAYER_LOOK` the player."""
    home: int = 0
    """Where an NPC goes back to."""
    act: str = "stand"
    age: int = 0
    temperament: str = "friendly"
    driven: bool = False
    """Whether the slot is moved by intents instead of a mind of its own."""
    mood: str = "calm"
    mood_left: int = 0
    """Frames until the mood is calm again."""
    noticed: str | None = None
    """The player's gesture that waits for an answer."""
    noticed_age: int = 0
    """Frames since that gesture's first one."""

    def begin(self, act: str) -> None:
        """Change to the first frame of an act."""
        self.act, self.age = act, 0


@dataclass(frozen=True, slots=True)
class Reaction:
    """An NPC's answer. Frames are counted from the reset, whose frame is 0."""

    npc: int
    reaction: str
    gesture: str
    gesture_frame: int
    """The first frame that shows the gesture."""
    onset_frame: int
    """The first frame that shows the answer."""
    temperament: str
    mood: str
    """Before the answer."""

    @property
    def delay(self) -> int:
        """Frames from gesture to answer: 2, 3 or 4."""
        return self.onset_frame - self.gesture_frame

    def told(self) -> dict[str, int | str]:
        """All of it as plain values, for `info`."""
        return {**asdict(self), "delay": self.delay}


@dataclass(slots=True)
class Scene:
    """Everything that decides the future and the picture.

    figures[0] is the player, then one or two NPCs. `luck` is the state of the dice, 64 bits.
    """

    figures: list[Figure]
    place: int
    luck: int
    frame: int = 0
    reactions: tuple[Reaction, ...] = ()
    """Answers that began with the present frame."""
    reward: float = 0.0
    """Of the step that led to the present frame."""
    sparks: tuple[int, ...] = ()
    """Columns where a blow landed in the present frame."""

    def copy(self) -> Scene:
        """A scene of its own that goes on alike: a save state."""
        return replace(self, figures=[replace(figure) for figure in self.figures])

    def dice(self) -> int:
        """Change `luck` by one throw; returns 0..255, all alike likely (SplitMix64, Steele, Lea and Flood 2014)."""
        self.luck = (self.luck + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self.luck ^ self.luck >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        return mixed >> 56
