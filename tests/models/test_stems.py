"""Stems and heads, the way into tokens and back."""

import pytest
import torch

from worldsim.models.stems import REDUCTION, STEMS

GRID = (3, 5)
SIZE = (GRID[0] * REDUCTION, GRID[1] * REDUCTION)


@pytest.fixture(params=sorted(STEMS))
def parts(request):
    torch.manual_seed(0)
    stem, head = STEMS[request.param]
    return stem(6, 32, (8, 16)), head(3, 32, (8, 16))


def test_a_frame_becomes_one_token_per_eight_by_eight_pixels_and_comes_back(parts):
    stem, head = parts
    tokens, skips = stem(torch.randn(2, 6, *SIZE), torch.randn(2, 32))
    assert tokens.shape == (2, GRID[0] * GRID[1], 32)
    assert head(tokens, skips, torch.randn(2, 32), GRID).shape == (2, 3, *SIZE)


def test_a_token_stands_for_the_pixels_at_its_place(parts):
    """The strongest change of a pixel patch is in its own token, row by row."""
    stem, head = parts
    noise = torch.zeros(1, 32)
    frame = torch.zeros(1, 6, *SIZE)
    plain, skips = stem(frame, noise)
    row, column = 1, 3
    frame[..., row * 8 + 3 : row * 8 + 6, column * 8 + 3 : column * 8 + 6] = 1.0
    moved = (stem(frame, noise)[0] - plain).abs().sum(dim=-1)[0]
    token = row * GRID[1] + column
    assert moved.argmax() == token
    tokens = plain.clone()
    tokens[:, token] += torch.randn(32)
    painted = (head(tokens, skips, noise, GRID) - head(plain, skips, noise, GRID)).abs().sum(dim=1)[0]
    patches = painted.unflatten(0, (GRID[0], 8)).unflatten(2, (GRID[1], 8)).sum(dim=(1, 3))
    assert patches.argmax() == token


def test_each_frame_passes_by_itself(parts):
    stem, head = parts
    frames, noise = torch.randn(3, 6, *SIZE), torch.randn(3, 32)
    outputs = []
    for each in (slice(None), slice(1, 2)):
        tokens, skips = stem(frames[each], noise[each])
        outputs.append(head(tokens, skips, noise[each], GRID))
    assert torch.allclose(outputs[0][1], outputs[1][0], atol=1e-5)
