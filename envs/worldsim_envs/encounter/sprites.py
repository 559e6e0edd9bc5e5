"""Figures painted from their joints: capsules and discs, smooth at any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from worldsim_envs.encounter.poses import Point, Pose, pose_of

Colour = tuple[int, int, int]

LEFT, RIGHT, UP, DOWN = 20, 20, 34, 2
"""Pixels of a sprite around the ground between the feet."""
SUBPIXELS = 4  # a side; the share of them that is covered is a pixel's opacity

INK, WHITE, GOLD = (34, 28, 40), (250, 250, 246), (250, 210, 70)
PINK, RAGE, FEAR, HUFF, SILVER = (255, 96, 160), (235, 60, 20), (90, 190, 255), (104, 92, 112), (196, 204, 216)
RIBBON = (200, 40, 170)
FLUSH = (236, 128, 104)


@dataclass(frozen=True)
class Look:
    """Colours and what is on the head."""

    tunic: Colour
    legs: Colour
    hair: Colour
    skin: Colour
    headwear: str | None = None
    """bun, hat, beard or None."""


LOOKS = (
    Look((42, 92, 200), (40, 44, 70), (236, 196, 96), (244, 204, 170), "bun"),
    Look((130, 66, 176), (70, 50, 50), (226, 226, 226), (222, 172, 136), "beard"),
    Look((238, 160, 40), (84, 58, 40), (60, 40, 30), (176, 120, 84), "hat"),
    Look((16, 150, 140), (96, 96, 104), (150, 66, 30), (240, 196, 160), None),
    Look((214, 40, 44), (50, 54, 96), (74, 46, 30), (246, 206, 172), None),
)
"""By `Figure.look`: four NPCs, then the player, the only one in red."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """colour: (h, w, 3) uint16, already times opacity; clear: (h, w, 1) uint16, 255 less opacity."""

    colour: np.ndarray
    clear: np.ndarray


@lru_cache(maxsize=4096)
def sprite(look: int, act: str, index: int, mood: str, facing: int, scale: int) -> Sprite:
    """One picture of a figure, (36, 40) pixels times `scale`. facing: 1 right, -1 left."""
    pose = pose_of(act, index, mood)
    if facing == (-1 if not pose.turned else 1):
        right = _painted(look, act, index, mood, scale)
        return Sprite(right.colour[:, ::-1], right.clear[:, ::-1])
    return _painted(look, act, index, mood, scale)


@lru_cache(maxsize=4096)
def _painted(look: int, act: str, index: int, mood: str, scale: int) -> Sprite:
    pose = pose_of(act, index, mood)
    canvas = Canvas(scale, pose.lift)
    paint_figure(canvas, pose, LOOKS[look], mood)
    return canvas.sprite()


class Canvas:
    """A sprite in the making, at several subpixels a pixel. `lift` moves what is painted up, in pixels."""

    def __init__(self, scale: int, lift: float = 0.0) -> None:
        self.subpixels = SUBPIXELS if scale < 4 else SUBPIXELS // 2  # large pictures are smooth enough
        self.unit = scale * self.subpixels
        self.lift = lift
        shape = ((UP + DOWN) * self.unit, (LEFT + RIGHT) * self.unit)
        self.colour = np.zeros((*shape, 3), np.uint16)
        self.covered = np.zeros(shape, np.uint16)
        self.x = (np.arange(shape[1]) + 0.5) / self.unit - LEFT
        self.y = UP - (np.arange(shape[0]) + 0.5)[:, None] / self.unit - lift

    def capsule(self, one: Point, other: Point, radius: float, colour: Colour) -> None:
        """Paint a thick line with round ends; a disc where both ends are one."""
        (ax, ay), (bx, by) = one, other
        part = self._part(min(ax, bx) - radius, max(ax, bx) + radius, min(ay, by) - radius, max(ay, by) + radius)
        x, y = self.x[part[1]] - ax, self.y[part[0]] - ay
        length = (bx - ax) ** 2 + (by - ay) ** 2
        along = np.clip((x * (bx - ax) + y * (by - ay)) / (length or 1.0), 0.0, 1.0)
        self._fill(part, (x - along * (bx - ax)) ** 2 + (y - along * (by - ay)) ** 2 <= radius**2, colour)

    def disc(self, at: Point, radius: float, colour: Colour) -> None:
        """Paint a disc."""
        self.capsule(at, at, radius, colour)

    def box(self, at: Point, half: Point, colour: Colour) -> None:
        """Paint a rectangle around a point."""
        part = self._part(at[0] - half[0], at[0] + half[0], at[1] - half[1], at[1] + half[1])
        inside = (abs(self.x[part[1]] - at[0]) <= half[0]) & (abs(self.y[part[0]] - at[1]) <= half[1])
        self._fill(part, inside, colour)

    def sprite(self) -> Sprite:
        """What was painted, in whole pixels."""
        covered = self._sums(self.covered[..., None]) * 255 // self.subpixels**2
        colour = self._sums(self.colour) // self.subpixels**2
        return Sprite(colour.astype(np.uint16), (255 - covered).astype(np.uint16))

    def _part(self, left: float, right: float, low: float, high: float) -> tuple[slice, slice]:
        """Rows and columns around a rectangle, so that little is painted in vain."""
        rows = (int((UP - y - self.lift) * self.unit) for y in (high, low))
        columns = (int((x + LEFT) * self.unit) for x in (left, right))
        (top, bottom), (first, last) = rows, columns
        return slice(max(top - 1, 0), max(bottom + 2, 0)), slice(max(first - 1, 0), max(last + 2, 0))

    def _fill(self, part: tuple[slice, slice], where: np.ndarray, colour: Colour) -> None:
        self.colour[part][where] = colour
        self.covered[part][where] = 1

    def _sums(self, fine: np.ndarray) -> np.ndarray:
        """Sum over the subpixels of each pixel: (H, W, C) to (h, w, C)."""
        rows, columns = (side // self.subpixels for side in fine.shape[:2])
        cut = fine.reshape(rows, self.subpixels, columns, self.subpixels, fine.shape[-1])
        return cut.sum(axis=(1, 3), dtype=np.int64)


def paint_figure(canvas: Canvas, pose: Pose, look: Look, mood: str) -> None:
    """Paint a figure: the far limbs first, then body and head, the near arm, things and signs last."""
    dark = tuple(channel * 3 // 4 for channel in look.tunic)
    for foot, colour in zip(pose.feet, (tuple(c * 3 // 4 for c in look.legs), look.legs), strict=True):
        canvas.capsule(pose.hip, foot, 1.35, colour)
        canvas.capsule(foot, (foot[0] + 1.0, foot[1]), 1.0, INK)
    _paint_arm(canvas, pose, pose.near_arm, dark, look)
    canvas.capsule(pose.hip, pose.chest, 2.7, look.tunic)
    x, y = pose.hip
    canvas.capsule((x - 1.9, y + 0.6), (x + 1.9, y + 0.6), 0.8, INK)
    _paint_head(canvas, pose, look, mood)
    _paint_arm(canvas, pose, pose.far_arm, look.tunic, look)
    if pose.gift is not None:
        _paint_gift(canvas, pose.gift)
    if pose.sign is not None:
        SIGNS[pose.sign](canvas, pose.head)


def _paint_arm(canvas: Canvas, pose: Pose, arm: tuple[Point, ...], sleeve: Colour, look: Look) -> None:
    joints = (pose.chest, *arm)
    for i, (one, other) in enumerate(zip(joints, joints[1:], strict=False)):
        forearm = pose.bracers and i == len(joints) - 2
        canvas.capsule(one, other, 1.5 if forearm else 1.2, SILVER if forearm else sleeve)
    canvas.disc(arm[-1], 1.9 if pose.fists else 1.45, look.skin)


def _paint_head(canvas: Canvas, pose: Pose, look: Look, mood: str) -> None:
    x, y = pose.head
    back = -1.0 if pose.eye >= 0 else 1.0
    canvas.disc((x + 0.6 * back, y + 0.7), 3.7, look.hair)
    canvas.disc((x - 0.5 * back, y - 0.5), 3.0, FLUSH if mood == "angry" else look.skin)
    if look.headwear == "bun":
        canvas.disc((x + 3.4 * back, y + 2.4), 1.7, look.hair)
    elif look.headwear == "hat":
        canvas.capsule((x - 4.4, y + 2.2), (x + 4.4, y + 2.2), 0.9, look.hair)
        canvas.capsule((x - 1.2, y + 3.6), (x + 1.2, y + 3.6), 1.7, look.hair)
    elif look.headwear == "beard":
        canvas.capsule((x - 1.2 * back, y - 2.8), (x - 0.6 * back, y - 4.4), 1.7, look.hair)
    canvas.capsule((x + pose.eye, y + 0.4), (x + pose.eye, y - 0.4), 0.75, INK)
    if pose.mouth:
        canvas.disc((x + pose.eye * 0.8, y - 2.0), 0.8, (150, 30, 40))
    if mood == "hurt":
        canvas.capsule((x + pose.eye, y - 1.0), (x + pose.eye, y - 2.6), 0.7, FEAR)


def _paint_gift(canvas: Canvas, at: Point) -> None:
    x, y = at
    canvas.box(at, (2.4, 2.0), WHITE)
    canvas.box(at, (0.6, 2.0), RIBBON)
    canvas.box(at, (2.4, 0.5), RIBBON)
    canvas.disc((x - 0.9, y + 2.5), 0.8, RIBBON)
    canvas.disc((x + 0.9, y + 2.5), 0.8, RIBBON)


def _paint_heart(canvas: Canvas, head: Point) -> None:
    x, y = head[0] + 7.2, head[1] + 7.6
    canvas.disc((x - 1.5, y + 1.0), 1.8, PINK)
    canvas.disc((x + 1.5, y + 1.0), 1.8, PINK)
    for width, down in ((2.9, 0.0), (2.3, -0.8), (1.6, -1.6), (0.9, -2.4)):
        canvas.box((x, y + down), (width, 0.5), PINK)


def _paint_rage(canvas: Canvas, head: Point) -> None:
    x, y = head
    for lean, side in ((-2.4, -3.4), (0.0, 0.2), (2.4, 3.8)):
        canvas.capsule((x + side * 0.6, y + 5.4), (x + side * 0.6 + lean * 0.6, y + 8.4), 0.75, RAGE)


def _paint_fear(canvas: Canvas, head: Point) -> None:
    x, y = head
    for dx, dy in ((-5.2, 2.2), (-4.0, 5.6), (0.0, 7.0)):
        canvas.capsule((x + dx, y + dy), (x + dx + 0.5, y + dy + 1.2), 0.85, FEAR)


def _paint_stars(canvas: Canvas, head: Point) -> None:
    x, y = head
    for dx, dy in ((-4.0, 6.0), (0.0, 7.6), (4.0, 6.0)):
        canvas.capsule((x + dx - 1.2, y + dy), (x + dx + 1.2, y + dy), 0.5, GOLD)
        canvas.capsule((x + dx, y + dy - 1.2), (x + dx, y + dy + 1.2), 0.5, GOLD)


def _paint_huff(canvas: Canvas, head: Point) -> None:
    x, y = head[0] + 4.4, head[1] + 6.0
    for dx, dy, radius in ((0.0, 0.0, 1.0), (2.2, 1.4, 1.5), (5.2, 2.4, 2.0)):
        canvas.disc((x + dx, y + dy), radius, HUFF)


SIGNS = {
    "heart": _paint_heart,
    "rage": _paint_rage,
    "fear": _paint_fear,
    "stars": _paint_stars,
    "huff": _paint_huff,
}
