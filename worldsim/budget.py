"""The memory that a batch of worlds takes, known from the network's sizes before any of it is allocated."""

from __future__ import annotations

from collections.abc import Mapping

HALF, SINGLE, LONG = 2, 4, 8
"""Bytes of a bfloat16, a float32 and an int64 number."""

REDUCTION = 8
"""Pixels a token along each axis."""
SCRATCH = 1 << 20
"""What oneDNN takes once, for any number of worlds, on processors with matrix units (AMX)."""


def state_bytes(config: Mapping, worlds: int, *, lag: int) -> int:
    """What so many worlds are between two steps, to the byte: keys, values, turned keys, one call's, frames, noise.

    config: of the denoiser, as its `config.json` has it; the weights are bfloat16. lag: of the heads.
    """
    layers = len(range(0, config["depth"], config["temporal_every"]))
    remembered = layers * _tokens(config) * config["dim"] * (3 * config["window"] + 2) * HALF
    frame = config["channels"] * config["height"] * config["width"]
    return worlds * (remembered + frame * HALF + lag * frame + 3 * LONG)


def working_bytes(config: Mapping, worlds: int) -> int:
    """What a step on a CPU takes beside the state, at most: the larger of painting and of writing to memory.

    Painting holds a frame's noise as 64-bit words and single numbers, the convolutions' features at half and quarter
    resolution, and the tokens with their MLP's inner ones; writing turns a layer's keys in single precision. The
    library's own `SCRATCH` comes on top.
    """
    pixels, tokens = config["height"] * config["width"], _tokens(config)
    frames = 12 * config["channels"] * pixels * SINGLE
    fine, coarse = config["conv_widths"]
    features = 6 * (fine * pixels // 4 + coarse * pixels // 16) * HALF
    painting = frames + features + 12 * tokens * config["dim"] * HALF
    writing = frames + 5 * tokens * config["dim"] * config["window"] * SINGLE
    return worlds * max(painting, writing) + SCRATCH


def _tokens(config: Mapping) -> int:
    return (config["height"] // REDUCTION) * (config["width"] // REDUCTION)
