"""Pixels and the network's range."""

import torch

from worldsim.codec import PixelCodec


def test_every_pixel_value_survives_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    assert torch.equal(PixelCodec().decode(PixelCodec().encode(pixels)), pixels)


def test_black_is_minus_one_and_white_is_one():
    encoded = PixelCodec().encode(torch.tensor([0, 255], dtype=torch.uint8))
    assert encoded.tolist() == [-1.0, 1.0] and encoded.dtype == torch.float32


def test_values_outside_the_range_are_clipped_and_others_rounded():
    step = 2 / 255
    frame = torch.tensor([-7.0, 7.0, -1 + 0.4 * step, -1 + 0.6 * step, 1 - 0.4 * step])
    assert PixelCodec().decode(frame).tolist() == [0, 255, 0, 1, 255]


def test_the_codec_keeps_every_axis_in_its_place():
    pixels = torch.randint(0, 256, (2, 4, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoded = PixelCodec().encode(pixels)
    assert encoded.shape == pixels.shape
    assert torch.equal(PixelCodec().decode(encoded[1, 2]), pixels[1, 2])
