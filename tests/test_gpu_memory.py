"""The kernels of attention through time: what the packed network's memory answers, without a GPU as Triton interprets
them (`conftest` sees to it)."""

import pytest
import torch

from worldsim.cache import KVCache
from worldsim.engine.network import Memory

pytest.importorskip("triton")
from worldsim.engine.gpu_memory import GpuMemory

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def remembering(dtype, heads, window, size, frames):
    """A memory of as many worlds as `frames` has numbers, 5 sites each, in one layer."""
    frame = torch.zeros(3, 8, 8, dtype=dtype, device=DEVICE)
    shape = {"layers": 1, "sites": 5, "heads": heads, "window": window, "head_dim": size}
    cache = KVCache.empty(len(frames), **shape, frame=frame)
    for buffer in (cache.keys[0], cache.values[0], cache.turned[0]):
        buffer.normal_()
    cache.frames.copy_(torch.tensor(frames))
    return cache


def projected(cache):
    """Query, key and value of a frame, (B, S, heads, 1, head_dim) each, in one tensor as a projection leaves them."""
    worlds, sites, heads, _, size = cache.keys[0].shape
    qkv = torch.randn(worlds, sites, 3, heads, size, dtype=cache.previous.dtype, device=cache.previous.device)
    return (each.unsqueeze(3) for each in qkv.unbind(2))


SIZES = pytest.mark.parametrize(
    ("dtype", "heads", "window", "size"),
    [(torch.float32, 4, 16, 64), (torch.float32, 2, 12, 48), (torch.float32, 3, 8, 20), (torch.bfloat16, 4, 16, 64)],
)


@SIZES
def test_one_look_sees_the_past_that_there_is_and_itself(dtype, heads, window, size):
    torch.manual_seed(0)
    cache = remembering(dtype, heads, window, size, [0, 3, window, window + 5])
    query, key, value = projected(cache)
    right, seen = (each(cache).attend(query, key, value) for each in (Memory, GpuMemory))
    assert right.shape == seen.shape and seen.dtype == dtype
    assert torch.allclose(seen[0], value[0])  # who remembers nothing sees itself alone
    assert (seen.float() - right.float()).abs().max() < (1e-5 if dtype == torch.float32 else 0.08)


@SIZES
def test_a_push_drops_the_oldest_and_turns_every_key_to_its_new_age(dtype, heads, window, size):
    torch.manual_seed(0)
    cache = remembering(dtype, heads, window, size, [0, window + 5])
    other = cache.clone()
    for kept in (False, True):
        _, key, value = projected(cache)
        other.leave(0, key, value)
        cache.push(0, key, value)
        GpuMemory(other).push(0, *(other.pending_of(0) if kept else (key, value)))
        assert torch.equal(other.keys[0], cache.keys[0]) and torch.equal(other.values[0], cache.values[0])
        off = (other.turned[0].float() - cache.turned[0].float()).abs()
        assert off.max() < (1e-5 if dtype == torch.float32 else 0.04)
    assert torch.equal(other.frames, cache.frames)  # they are counted once for all layers, by whoever pushes
