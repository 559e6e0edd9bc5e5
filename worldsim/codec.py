"""The codec between pixels and the space the network paints in."""

from __future__ import annotations

import torch
from torch import Tensor


class PixelCodec:
    """The identity codec: uint8 pixels (..., 3, H, W) <-> float32 frames in [-1, 1] of the same shape."""

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 0..255 -> float32 in [-1, 1]."""
        return pixels.float() / 127.5 - 1.0

    def decode(self, frame: Tensor) -> Tensor:
        """float in [-1, 1] -> uint8 0..255, rounded; the exact inverse of `encode` on its range."""
        return ((frame.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
