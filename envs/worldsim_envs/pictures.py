"""Pictures of worlds for people: sharp enlargements, labelled frames of a clip, contact sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (13, 16, 21)
TEXT = (240, 243, 246)
MUTED = (158, 170, 184)
ACCENT = (255, 186, 73)
LEAST_SIZE = 9
"""Of letters, in pixels; smaller ones cannot be read."""


@dataclass(frozen=True)
class Column:
    """One moment of a contact sheet: two lines over it, then the frames of each row, (H, W, 3) uint8, by row label."""

    heading: str
    detail: str
    frames: Mapping[str, np.ndarray]


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """A frame (H, W, 3) with each pixel a square of scale x scale: (H * scale, W * scale, 3)."""
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def clip_frame(frames: Mapping[str, np.ndarray], words: str, scale: int) -> np.ndarray:
    """One picture of a clip: frames (H, W, 3) uint8 side by side under their labels, a line of words under all.

    Every side is a multiple of 4, and with an even `scale` game pixels lie on even positions: 4:2:0 video stays sharp.
    """
    bar, gap = 40, 16
    height, width = (side * scale for side in next(iter(frames.values())).shape[:2])
    total = len(frames) * width + (len(frames) + 1) * gap
    picture = Image.new("RGB", (-(-total // 4) * 4, -(-(height + 2 * bar) // 4) * 4), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for i, (label, frame) in enumerate(frames.items()):
        left = gap + i * (width + gap)
        picture.paste(Image.fromarray(enlarge(frame, scale)), (left, bar))
        draw.text((left, bar // 2), label, TEXT, _fitting(label, 20, width), anchor="lm")
    draw.text((gap, bar + height + bar // 2), words, MUTED, _fitting(words, 18, total - 2 * gap), anchor="lm")
    return np.asarray(picture)


def contact_sheet(bands: Sequence[Sequence[Column]], title: str, subtitle: str, scale: int) -> Image.Image:
    """Bands of columns under a title; each band has one row of frames for each row label of its columns.

    Words that are wider than the sheet or their column are written smaller, down to `LEAST_SIZE`.
    """
    gap, margin, gutter, head, top = 10, 28, 104, 46, 112
    labels = list(bands[0][0].frames)
    height, width = (side * scale for side in bands[0][0].frames[labels[0]].shape[:2])
    band_height = head + len(labels) * (height + gap) + 2 * gap
    columns = max(map(len, bands))
    size = (2 * margin + gutter + columns * (width + gap) - gap, top + len(bands) * band_height + margin - 2 * gap)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    across = size[0] - 2 * margin
    draw.text((margin, margin), title, TEXT, _fitting(title, 28, across), anchor="lt")
    draw.text((margin, margin + 38), subtitle, MUTED, _fitting(subtitle, 17, across), anchor="lt")
    for i, band in enumerate(bands):
        y = top + i * band_height
        for row, label in enumerate(labels):
            middle = y + head + row * (height + gap) + height // 2
            draw.text((margin, middle), label, ACCENT if row else TEXT, _font(19), anchor="lm")
        for j, column in enumerate(band):
            x = margin + gutter + j * (width + gap)
            draw.text((x, y), column.heading, TEXT, _fitting(column.heading, 17, width), anchor="lt")
            draw.text((x, y + 22), column.detail, MUTED, _fitting(column.detail, 15, width), anchor="lt")
            for row, label in enumerate(labels):
                tile = Image.fromarray(enlarge(column.frames[label], scale))
                sheet.paste(tile, (x, y + head + row * (height + gap)))
    return sheet


def _fitting(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
    """The typeface at the largest size up to `size` at which the text is no wider than `width` pixels, or the least."""
    fits = (_font(each) for each in range(size, LEAST_SIZE, -1) if _font(each).getlength(text) <= width)
    return next(fits, _font(LEAST_SIZE))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, so that a picture looks alike on every machine."""
    return ImageFont.load_default(size)
