"""The rules of Encounter: who answers which gesture how, from how far, how soon and for how long.

What an NPC does when the player makes a gesture that reaches it, and the mood it is in from then on (none named: its
mood stays). A table and not a program, so that a test can play it row by row:

| temperament | mood  | wave      | bow           | give          | threaten       | strike       |
|-------------|-------|-----------|---------------|---------------|----------------|--------------|
| friendly    | calm  | wave      | bow           | rejoice       | step_back      | fall, hurt   |
| friendly    | hurt  | step_back | forgive, calm | forgive, calm | flee           | fall, hurt   |
| friendly    | angry | snub      | forgive, calm | forgive, calm | step_back      | fall, hurt   |
| timid       | calm  | step_back | bow           | rejoice       | flee, hurt     | fall, hurt   |
| timid       | hurt  | flee      | step_back     | forgive, calm | flee, hurt     | fall, hurt   |
| timid       | angry | snub      | bow, calm     | forgive, calm | flee, hurt     | flee, hurt   |
| proud       | calm  | snub      | bow           | bow           | threaten,angry | brawl, angry |
| proud       | hurt  | snub      | forgive, calm | snub          | threaten,angry | brawl, angry |
| proud       | angry | snub      | bow, calm     | snub          | brawl, angry   | fall, hurt   |
| hostile     | calm  | threaten  | snub          | snub          | brawl, angry   | brawl, angry |
| hostile     | hurt  | step_back | bow           | forgive, calm | threaten,angry | brawl, angry |
| hostile     | angry | threaten  | snub          | forgive, calm | brawl, angry   | fall, hurt   |

Nobody answers a guard; it stops blows. Further rules:

- A gesture reaches an NPC where the player faces it and is no further off than `REACH` when the gesture begins.
- The answer begins 2, 3 or 4 frames after the gesture's first frame, with chances 1/4, 1/2, 1/4: each frame throws
  its own dice (`CHANCE_NOW`), so nothing hidden is decided in advance.
- An NPC that is answering takes no notice of further gestures, but for a strike, which cuts short all but a fall.
- A gift goes from hand to hand where the answer to it is a warm one (`WARM`): "give" goes on as "given".
- A gesture lasts `FRAMES` frames and cannot be cut short, but for a fall; a guard lasts as long as it is held.
- A blow falls in frame `BLOW` of a strike and in frames `BRAWL_BLOWS` of a brawl. It fells the player and any slot
  that is driven, within reach and in front; not one who guards, facing it. An NPC with a mind of its own answers a
  strike as the table says instead.
- A mood lasts `MOOD_FRAMES` frames, counted afresh by each answer that names it; a meter over the head shows the rest.
- The temperament and mood in the frame in which an answer begins decide it, so a change of temperament shows in every
  answer that has not begun yet; it leaves the mood as it is.
- Where nobody did anything an NPC only stands, looks about, or walks back to its place.
- Buttons held together: left and right cancel; a gesture goes before walking; of several gestures the first in the
  order of `GESTURES` is made; a button counts as held from 0.5.
- Reward: 1 when an NPC begins a warm answer (`WARM`), -1 when the player falls.
"""

from __future__ import annotations

GESTURES = ("wave", "bow", "give", "threaten", "strike", "guard")
BUTTONS = ("left", "right", *GESTURES)
TEMPERAMENTS = ("friendly", "timid", "proud", "hostile")
MOODS = ("calm", "hurt", "angry")
REACTIONS = ("wave", "bow", "rejoice", "step_back", "flee", "snub", "threaten", "brawl", "fall", "forgive")
WARM = frozenset({"wave", "bow", "rejoice", "forgive"})
IDLE = frozenset({"stand", "walk", "look"})
"""What an NPC does of its own accord; no answer to anything."""

FPS = 12
WIDTH = HEIGHT = 64

REACH = {"wave": 40, "bow": 30, "threaten": 30, "give": 17, "strike": 17}
"""Pixels between the two figures from which a gesture is noticed; a blow's too."""
FRAMES = {
    **{"wave": 8, "bow": 8, "give": 8, "threaten": 8, "strike": 7},
    **{"rejoice": 12, "step_back": 8, "flee": 22, "snub": 10, "brawl": 14, "fall": 14, "forgive": 10},
    **{"look": 6, "given": 8},
}
"""How long each act lasts; at `FPS` frames a second."""

LEAST_DELAY, MOST_DELAY = 2, 4
CHANCE_NOW = {2: 64, 3: 171, 4: 256}
"""Frames since the gesture's first one -> chance, of 256, that the answer begins now if it has not yet."""
LOOK_CHANCE = 6
"""Chance, of 256, that an NPC that stands begins to look about."""

BLOW = 2
BRAWL_BLOWS = (4, 10)
BRAWL_GAP = 12  # pixels to which a brawler closes in

MOOD_FRAMES = 72
WALK_PX, STEP_BACK_PX, FLEE_PX = 2, 1, 3  # a frame
NEAREST = 10  # pixels between two figures; they do not pass each other
LEFT_EDGE, RIGHT_EDGE = 6, 57  # where a figure's middle can be

Answer = tuple[str, str | None]
"""(reaction, mood from then on; None where it stays)."""


def _row(wave: str, bow: str, give: str, threaten: str, strike: str) -> dict[str, Answer]:
    cells = dict(zip(GESTURES[:-1], (wave, bow, give, threaten, strike), strict=True))
    return {gesture: (*cell.split(), None)[:2] for gesture, cell in cells.items()}


ANSWERS: dict[tuple[str, str], dict[str, Answer]] = {
    ("friendly", "calm"): _row("wave", "bow", "rejoice", "step_back", "fall hurt"),
    ("friendly", "hurt"): _row("step_back", "forgive calm", "forgive calm", "flee", "fall hurt"),
    ("friendly", "angry"): _row("snub", "forgive calm", "forgive calm", "step_back", "fall hurt"),
    ("timid", "calm"): _row("step_back", "bow", "rejoice", "flee hurt", "fall hurt"),
    ("timid", "hurt"): _row("flee", "step_back", "forgive calm", "flee hurt", "fall hurt"),
    ("timid", "angry"): _row("snub", "bow calm", "forgive calm", "flee hurt", "flee hurt"),
    ("proud", "calm"): _row("snub", "bow", "bow", "threaten angry", "brawl angry"),
    ("proud", "hurt"): _row("snub", "forgive calm", "snub", "threaten angry", "brawl angry"),
    ("proud", "angry"): _row("snub", "bow calm", "snub", "brawl angry", "fall hurt"),
    ("hostile", "calm"): _row("threaten", "snub", "snub", "brawl angry", "brawl angry"),
    ("hostile", "hurt"): _row("step_back", "bow", "forgive calm", "threaten angry", "brawl angry"),
    ("hostile", "angry"): _row("threaten", "snub", "forgive calm", "brawl angry", "fall hurt"),
}
"""(temperament, mood) -> gesture -> answer: the table above."""
