"""Files that a session leaves behind: clips, and strips of frames painted twice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CLIP_HEIGHT = 384
"""Least height of a clip in pixels."""
BT709 = 1  # its number in ITU-T H.273
# With several threads, or with the fastest code for the processor, x264 writes other bytes from run to run.
SAME_BYTES = {"threads": "1", "x264-params": "cpu-independent=1"}
X264 = {"crf": "14", "preset": "veryfast", "tune": "animation", **SAME_BYTES}
BACKGROUND, TEXT, ACCENT = (13, 16, 21), (240, 243, 246), (255, 186, 73)
STRIP_COLUMNS = 8
STRIP_SCALE = 3
FILMS = (".mp4", ".gif", ".webp")
"""What `write_film` writes."""
WEBP = {"quality": 90, "method": 4}


def usual_suffix() -> str:
    """ ".mp4" where PyAV is installed, else ".gif", which needs nothing."""
    return ".mp4" if find_spec("av") else ".gif"


def check_clip_name(path: Path) -> None:
    """ValueError or ModuleNotFoundError in one line where `write_film` could not write this file."""
    if path.suffix not in FILMS:
        raise ValueError(f"cannot write '{path}'; give a name that ends in .mp4, .gif or .webp")
    if path.suffix == ".mp4" and not find_spec("av"):
        raise ModuleNotFoundError('an mp4 needs PyAV: pip install "worldsim[video]"; a .gif needs nothing', name="av")


def write_clip(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write frames (H, W, 3) uint8 as `write_film` does, each pixel an even number of pixels wide and high."""
    write_film(path, (_enlarged(frame) for frame in frames), fps)


def write_film(path: Path, pictures: Iterable[np.ndarray], fps: int) -> None:
    """Write pictures (H, W, 3) uint8 with even sides, as they are, as .mp4 (H.264), .gif or .webp.

    The same pictures make the same bytes. Where writing fails or is interrupted, a file of that name stays as it was.
    """
    check_clip_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        (_write_mp4 if path.suffix == ".mp4" else _write_animation)(part, pictures, fps)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes its name once it is complete and else leaves nothing behind."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if str(error.filename) != str(part):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_strip(path: Path, rows: dict[str, Sequence[np.ndarray]], title: str) -> None:
    """Write a PNG in which rows of frames (H, W, 3) uint8 stand under each other, some moments of all, with labels."""
    from PIL import Image, ImageDraw, ImageFont

    count = len(next(iter(rows.values())))
    moments = sorted({round(index) for index in np.linspace(0, count - 1, STRIP_COLUMNS)})
    height, width = (side * STRIP_SCALE for side in next(iter(rows.values()))[0].shape[:2])
    gap, label, top = 8, 28, 56
    size = (max(len(moments) * (width + gap) + gap, 640), top + len(rows) * (height + label))
    strip = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(strip)
    draw.text((gap, top // 2), title, TEXT, ImageFont.load_default(20), anchor="lm")
    for row, (name, frames) in enumerate(rows.items()):
        y = top + row * (height + label)
        draw.text((gap, y + label // 2 - 4), name, ACCENT if row else TEXT, ImageFont.load_default(16), anchor="lm")
        for column, moment in enumerate(moments):
            large = frames[moment].repeat(STRIP_SCALE, axis=0).repeat(STRIP_SCALE, axis=1)
            strip.paste(Image.fromarray(large), (gap + column * (width + gap), y + label - 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.save(path)


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """The frame at the least even scale that makes it CLIP_HEIGHT high: 4:2:0 video keeps its colours sharp."""
    scale = 2 * max(1, -(-CLIP_HEIGHT // (2 * frame.shape[0])))
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def _write_mp4(path: Path, pictures: Iterable[np.ndarray], fps: int) -> None:
    import av

    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = X264
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for picture in itertools.chain([first], pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=BT709)))
        container.mux(stream.encode())


def _write_animation(path: Path, pictures: Iterable[np.ndarray], fps: int) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(picture) for picture in pictures)
    how = WEBP if path.suffix == ".webp" else {}
    unit = 1 if how else 10  # milliseconds; each picture lasts until the next one's time, so that no rounding adds up
    times = [unit * round(1000 * number / (unit * fps)) for number in range(len(others) + 2)]
    durations = [after - before for before, after in itertools.pairwise(times)]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, **how)
