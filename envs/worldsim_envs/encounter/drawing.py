"""The picture of a scene: a background, the figures on it, meters of moods and sparks of blows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from worldsim_envs.encounter.poses import picture_index
from worldsim_envs.encounter.rules import HEIGHT, MOOD_FRAMES, WIDTH
from worldsim_envs.encounter.scene import Figure, Scene
from worldsim_envs.encounter.sprites import DOWN, GOLD, INK, LEFT, LOOKS, RIGHT, UP, WHITE, Colour, sprite

GROUND = 53
"""Row of the feet."""
METER_ROW, METER_PX = 60, 12
METERS = {"hurt": (70, 150, 255), "angry": (255, 70, 30)}

# Per place: sky above and at the horizon, far hills, near hills, grass, path.
PLACES: tuple[tuple[Colour, ...], ...] = (
    ((122, 186, 236), (206, 232, 244), (136, 184, 150), (104, 164, 108), (120, 184, 92), (206, 186, 140)),
    ((96, 84, 140), (240, 176, 140), (120, 104, 140), (92, 96, 112), (96, 124, 92), (160, 136, 116)),
    ((168, 190, 214), (226, 232, 238), (186, 200, 214), (150, 172, 188), (232, 238, 244), (196, 206, 218)),
)
MARGIN = max(LEFT, RIGHT)


def draw(scene: Scene, scale: int = 1) -> np.ndarray:
    """The scene as a frame (64 * scale, 64 * scale, 3) uint8."""
    frame = background(scene.place, scale).copy()
    for figure in reversed(scene.figures):
        _draw_figure(frame, figure, scale)
    for figure in scene.figures[1:]:
        if figure.mood_left:
            _draw_meter(frame, figure, scale)
    for x in scene.sparks:
        _draw_spark(frame, x, scale)
    edge = MARGIN * scale
    return np.ascontiguousarray(frame[:, edge:-edge])


@lru_cache(maxsize=32)
def background(place: int, scale: int) -> np.ndarray:
    """A place without people, (64 * scale, (64 + 2 * MARGIN) * scale, 3) uint8: sprites may hang over the edges."""
    top, horizon, far, near, grass, path = (np.array(colour, float) for colour in PLACES[place])
    rows = (np.arange(HEIGHT * scale) + 0.5)[:, None] / scale
    columns = (np.arange((WIDTH + 2 * MARGIN) * scale) + 0.5) / scale - MARGIN
    share = np.clip(rows / 38, 0, 1)[..., None]
    picture = np.broadcast_to(top + (horizon - top) * share, (len(rows), len(columns), 3)).copy()
    _paint_cloud(picture, rows, columns)
    picture[rows > 33 + 4 * _wave(columns, 46, 9)] = far
    picture[rows > 40 + 2.5 * _wave(columns, 30, 22)] = near
    _paint_tree(picture, rows, columns, near)
    picture[np.broadcast_to(rows > 47, picture.shape[:2])] = grass
    picture[np.broadcast_to((rows > 51) & (rows < 57), picture.shape[:2])] = path
    picture = (picture + 0.5).astype(np.uint8)
    picture.flags.writeable = False
    return picture


def find_tunic(frame: np.ndarray, looks: tuple[int, ...], tolerance: int = 60) -> tuple[float, float] | None:
    """Middle (x, y) of the pixels of a frame (64, 64, 3) uint8 in the tunic colour of one of the looks; None without.

    tolerance: sum over the channels of how far a pixel may be off.
    """
    if frame.shape != (HEIGHT, WIDTH, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {frame.shape}; positions are read from uint8 ({HEIGHT}, {WIDTH}, 3)")
    best: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))
    for look in looks:
        off = np.abs(frame[16:60].astype(np.int16) - np.array(LOOKS[look].tunic, np.int16)).sum(axis=-1)
        found = np.nonzero(off <= tolerance)
        best = found if len(found[0]) > len(best[0]) else best
    if len(best[0]) < 4:
        return None
    return float(best[1].mean()), float(best[0].mean() + 16)


def _draw_figure(frame: np.ndarray, figure: Figure, scale: int) -> None:
    index = picture_index(figure.act, figure.age)
    picture = sprite(figure.look, figure.act, index, figure.mood, figure.facing, scale)
    top, left = (GROUND - UP) * scale, (figure.x + MARGIN - LEFT) * scale
    part = frame[top : top + (UP + DOWN) * scale, left : left + (LEFT + RIGHT) * scale]
    part[:] = picture.colour + (part * picture.clear + 127) // 255


def _draw_meter(frame: np.ndarray, figure: Figure, scale: int) -> None:
    """A bar under the feet: how long the mood still lasts."""
    left = (figure.x + MARGIN - METER_PX // 2) * scale
    rows = slice(METER_ROW * scale, (METER_ROW + 2) * scale)
    frame[rows, left : left + METER_PX * scale] = INK
    filled = -(-figure.mood_left * METER_PX // MOOD_FRAMES)
    frame[rows, left : left + filled * scale] = METERS[figure.mood]


def _draw_spark(frame: np.ndarray, x: int, scale: int) -> None:
    middle, row = x + MARGIN, GROUND - 12
    for dx, dy, colour in ((0, 0, WHITE), (-2, -2, GOLD), (2, -2, GOLD), (-2, 2, GOLD), (2, 2, GOLD)):
        top, left = (row + dy - 1) * scale, (middle + dx - 1) * scale
        frame[top : top + 2 * scale, left : left + 2 * scale] = colour


def _wave(columns: np.ndarray, length: float, start: float) -> np.ndarray:
    """Smooth hills from -1 to 1 out of parabolas; a sine's last bit differs between machines."""
    turn = (columns + start) / length % 1.0
    return np.where(turn < 0.5, 1 - (4 * turn - 1) ** 2, (4 * turn - 3) ** 2 - 1)


def _paint_cloud(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    puffs = ((16, 9, 3.4), (20, 8, 4.2), (25, 9, 3.2), (50, 14, 2.4), (53, 13, 3.0), (57, 14, 2.2))
    inside = np.any([(columns - x) ** 2 / 1.6 + (rows - y) ** 2 <= radius**2 for x, y, radius in puffs], axis=0)
    picture[inside] = 0.35 * picture[inside] + 0.65 * np.array(WHITE)


def _paint_tree(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray, hills: np.ndarray) -> None:
    picture[(abs(columns - 32) <= 1.2) & (rows > 36) & (rows < 48)] = (96, 74, 58)
    for x, y, radius in ((32, 31, 5.2), (28, 34, 3.6), (36, 34, 3.6)):
        picture[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = hills * 0.8
