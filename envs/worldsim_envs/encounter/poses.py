"""Poses of a figure as joints: what each act looks like, frame by frame.

Pixels of a 64-pixel frame, seen from the side, facing right; (0, 0) is the ground between the feet, y goes up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Point = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """Joints and things of one picture of a figure."""

    head: Point = (0.4, 17.2)
    chest: Point = (0.0, 11.8)
    hip: Point = (0.0, 6.5)
    feet: tuple[Point, Point] = ((-2.0, 0.6), (2.0, 0.6))
    far_arm: tuple[Point, ...] = ((3.2, 7.4),)
    near_arm: tuple[Point, ...] = ((-3.2, 7.4),)
    """Elbow and hand, or the hand alone."""
    fists: bool = False
    bracers: bool = False
    gift: Point | None = None
    sign: str | None = None
    """heart, rage, fear, stars or huff, above the head."""
    eye: float = 1.8
    """Column of the eye from the middle of the head; below 0 it looks back."""
    mouth: bool = False
    turned: bool = False
    """Whether the whole figure shows its back to where it faces."""
    lift: float = 0.0
    """How high it jumps."""


STAND = Pose()
_BREATH = replace(STAND, head=(0.4, 16.9), far_arm=((3.4, 7.1),), near_arm=((-3.4, 7.1),))
HURT = Pose(head=(1.4, 15.6), chest=(0.5, 11.0), far_arm=((4.2, 8.4), (1.6, 10.8)), near_arm=((-2.4, 6.6),))
ANGRY = Pose(far_arm=((5.0, 10.0), (2.2, 6.8)), near_arm=((-5.0, 10.0), (-2.2, 6.8)), fists=True, mouth=True)

_WALK = (
    Pose(feet=((-3.6, 1.2), (3.6, 0.6)), far_arm=((-2.8, 8.0),), near_arm=((3.2, 8.2),)),
    Pose(feet=((-0.8, 0.6), (0.8, 1.8)), head=(0.5, 17.6), chest=(0.1, 12.1), far_arm=((0.4, 7.2),)),
    Pose(feet=((3.6, 0.6), (-3.6, 1.2)), far_arm=((3.2, 8.2),), near_arm=((-2.8, 8.0),)),
    Pose(feet=((0.8, 1.8), (-0.8, 0.6)), head=(0.5, 17.6), chest=(0.1, 12.1), near_arm=((-0.4, 7.2),)),
)
_WAVE = (
    Pose(far_arm=((4.6, 15.0), (7.4, 20.4))),
    Pose(far_arm=((4.6, 15.0), (3.6, 21.4))),
)
_HALF_BOW = Pose(head=(4.6, 15.4), chest=(2.2, 11.4), hip=(-0.8, 6.5), far_arm=((3.2, 6.8),), near_arm=((0.4, 6.4),))
_BOW = Pose(head=(8.4, 9.8), chest=(4.6, 10.4), hip=(-1.8, 6.8), far_arm=((5.4, 4.8),), near_arm=((3.6, 4.6),), eye=1.4)
_REACH_OUT = Pose(
    chest=(0.8, 11.6), head=(1.2, 17.0), far_arm=((5.0, 11.2),), near_arm=((3.6, 10.4),), gift=(6.2, 11.6)
)
_GIVE = Pose(
    chest=(1.6, 11.4), head=(2.2, 16.8), far_arm=((8.0, 11.6),), near_arm=((7.0, 10.0),), gift=(10.0, 12.2),
    feet=((-2.6, 0.6), (3.0, 0.6)),
)  # fmt: skip
_THREATEN = (
    Pose(
        chest=(0.8, 12.2), head=(1.6, 17.2), far_arm=((5.8, 14.6), (7.2, 20.6)), near_arm=((-4.6, 14.6), (-4.8, 20.6)),
        feet=((-3.8, 0.6), (3.8, 0.6)), fists=True, mouth=True, sign="rage",
    ),
    Pose(
        chest=(1.4, 11.8), head=(2.4, 16.8), far_arm=((6.4, 13.8), (8.6, 18.8)), near_arm=((-4.2, 14.2), (-6.0, 19.0)),
        feet=((-3.8, 0.6), (3.8, 0.6)), fists=True, mouth=True, sign="rage",
    ),
)  # fmt: skip
_WIND_UP = Pose(
    chest=(-1.4, 11.6), head=(-0.8, 16.8), far_arm=((-3.0, 13.4), (-5.6, 11.8)), near_arm=((2.6, 9.6),),
    feet=((-3.4, 0.6), (2.4, 0.6)), fists=True,
)  # fmt: skip
_LUNGE = Pose(
    hip=(2.2, 5.6), chest=(4.6, 10.6), head=(5.6, 15.8), far_arm=((12.6, 11.6),), near_arm=((0.2, 8.4),),
    feet=((-5.2, 0.6), (6.0, 0.6)), fists=True, mouth=True,
)  # fmt: skip
_GUARD = Pose(
    hip=(-0.8, 5.6), chest=(-0.8, 10.8), head=(-1.0, 15.8), feet=((-4.0, 0.6), (3.0, 0.6)),
    far_arm=((2.2, 8.6), (5.6, 16.4)), near_arm=((6.0, 8.8), (2.4, 16.0)), bracers=True,
)  # fmt: skip
_CHEER = Pose(far_arm=((3.8, 15.0), (2.6, 21.6)), near_arm=((-3.8, 15.0), (-2.6, 21.6)), gift=(0.2, 23.4), sign="heart")
_EMBRACE = Pose(far_arm=((4.0, 11.2), (8.2, 13.4)), near_arm=((-4.0, 11.2), (-8.2, 13.4)), sign="heart")
_RECOIL = Pose(
    chest=(-2.2, 11.4), head=(-3.6, 16.4), hip=(-0.6, 6.4), far_arm=((2.4, 12.0), (4.6, 15.4)),
    near_arm=((1.8, 9.6), (5.0, 11.8)), feet=((-3.8, 0.6), (1.8, 0.6)), sign="fear",
)  # fmt: skip
_RUN = Pose(
    chest=(2.6, 11.0), head=(4.6, 15.8), hip=(0.0, 6.2), far_arm=((6.4, 13.8), (9.2, 18.0)),
    near_arm=((5.6, 11.0), (9.4, 13.6)), feet=((-5.0, 2.6), (4.4, 0.6)), turned=True, sign="fear", mouth=True,
)  # fmt: skip
_COWER = Pose(
    hip=(-0.8, 3.0), chest=(0.8, 6.2), head=(1.8, 9.6), far_arm=((5.6, 10.4), (3.4, 13.6)),
    near_arm=((-3.2, 9.4), (-0.2, 13.4)), feet=((-2.6, 0.6), (2.4, 0.6)), sign="fear", turned=True,
)  # fmt: skip
_SNUB = Pose(
    head=(0.2, 17.8), far_arm=((4.4, 9.2), (-1.6, 10.6)), near_arm=((-3.6, 9.0), (2.2, 10.8)), turned=True, sign="huff"
)
_TUMBLE = Pose(
    hip=(-2.0, 4.4), chest=(-5.2, 7.8), head=(-8.4, 11.0), far_arm=((-1.6, 13.0),), near_arm=((-9.4, 5.0),),
    feet=((2.6, 2.2), (4.0, 4.6)), mouth=True,
)  # fmt: skip
_LIE = Pose(
    hip=(-2.6, 2.2), chest=(-7.4, 2.2), head=(-11.8, 3.0), far_arm=((-6.2, 6.0), (-3.4, 5.0)), near_arm=((-9.0, 0.8),),
    feet=((4.0, 1.0), (3.6, 3.0)), sign="stars", eye=0.6,
)  # fmt: skip
_SIT_UP = Pose(
    hip=(-2.6, 2.4), chest=(-4.0, 7.0), head=(-3.6, 12.2), far_arm=((-0.6, 5.0),), near_arm=((-6.8, 1.4),),
    feet=((4.0, 0.8), (3.6, 2.4)),
)  # fmt: skip


def _bounce(pose: Pose, lifts: tuple[float, ...]) -> tuple[Pose, ...]:
    return tuple(replace(pose, lift=lift) for lift in lifts)


# Act -> (its pictures in order, frames that each is shown, whether they start over).
ACTS: dict[str, tuple[tuple[Pose, ...], int, bool]] = {
    "stand": ((STAND, _BREATH), 6, True),
    "look": ((replace(STAND, eye=-1.8),), 1, True),
    "walk": (_WALK, 2, True),
    "wave": (_WAVE, 2, True),
    "bow": ((_HALF_BOW, _BOW, _BOW, _BOW, _BOW, _BOW, _HALF_BOW), 1, False),
    "give": ((_REACH_OUT, _GIVE), 1, False),
    "given": ((replace(_GIVE, gift=None),), 1, True),
    "threaten": (_THREATEN, 1, True),
    "strike": ((_WIND_UP, _WIND_UP, _LUNGE, _LUNGE, _LUNGE, _WIND_UP), 1, False),
    "guard": ((_GUARD,), 1, True),
    "rejoice": (_bounce(_CHEER, (0.0, 2.5, 4.0, 4.0, 2.5, 0.0)), 1, True),
    "forgive": ((replace(_EMBRACE, head=(0.4, 16.8)), _EMBRACE), 3, True),
    "step_back": ((_RECOIL, replace(_RECOIL, feet=((-2.0, 0.6), (0.4, 0.6)))), 2, True),
    "flee": ((_RUN, replace(_RUN, feet=((4.4, 0.6), (-5.0, 2.6)))) * 3 + (_COWER,), 1, False),
    "snub": ((_SNUB,), 1, True),
    "brawl": (
        (_WIND_UP, _WIND_UP, _WIND_UP, _WIND_UP, _LUNGE, _LUNGE, _WIND_UP, _WIND_UP, _WIND_UP, _WIND_UP, _LUNGE),
        1,
        False,
    ),
    "fall": ((_TUMBLE,) + (_LIE,) * 10 + (_SIT_UP,), 1, False),
}

MOOD_STANDS = {
    "hurt": (HURT, replace(HURT, head=(1.4, 15.3))),
    "angry": (ANGRY, replace(ANGRY, head=(0.4, 17.0))),
}
"""How somebody in a mood stands, in place of the pictures of "stand"."""


def picture_index(act: str, age: int) -> int:
    """Which picture of an act shows its frame of that age."""
    pictures, hold, again = ACTS[act]
    index = age // hold
    return index % len(pictures) if again else min(index, len(pictures) - 1)


def pose_of(act: str, index: int, mood: str) -> Pose:
    """The pose of one picture of an act."""
    if act == "stand" and mood in MOOD_STANDS:
        return MOOD_STANDS[mood][index]
    return ACTS[act][0][index]
