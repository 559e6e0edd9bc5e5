"""The key-value cache, against a plain list of the last frames."""

import pytest
import torch

from worldsim.cache import KVCache, rotary_table, rotate

WORLDS, LAYERS, SITES, HEADS, WINDOW, HEAD_DIM = 3, 2, 6, 2, 4, 8
FRAME = (3, 16, 24)


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


def empty(frame=None):
    frame = torch.zeros(FRAME) if frame is None else frame
    return KVCache.empty(WORLDS, layers=LAYERS, sites=SITES, heads=HEADS, window=WINDOW, head_dim=HEAD_DIM, frame=frame)


def remember(cache, draw):
    """Commit one random frame; returns what was written, per layer."""
    written = [
        (draw(WORLDS, SITES, HEADS, 1, HEAD_DIM), draw(WORLDS, SITES, HEADS, 1, HEAD_DIM)) for _ in range(LAYERS)
    ]
    for layer, (key, value) in enumerate(written):
        cache.push(layer, key, value)
    cache.advance(draw(WORLDS, *FRAME))
    return written


def tensors(cache):
    return [*cache.keys, *cache.values, *cache.turned, cache.previous, cache.frames]


def bytes_of(cache, world=slice(None)):
    return [tensor[world].clone() for tensor in tensors(cache)]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_cache_is_a_list_of_the_last_window_frames(draw):
    cache, history = empty(), []
    buffers = [tensor.data_ptr() for tensor in tensors(cache)]
    for count in range(1, 3 * WINDOW + 1):
        history.append(remember(cache, draw))
        kept = history[-WINDOW:]
        for layer in range(LAYERS):
            for buffer, part in ((cache.keys, 0), (cache.values, 1)):
                right = torch.cat([frame[layer][part] for frame in kept], dim=-2)
                assert torch.equal(buffer[layer][..., WINDOW - len(kept) :, :], right)
        assert cache.frames.tolist() == [count] * WORLDS
        assert cache.visible().sum(dim=1).tolist() == [len(kept)] * WORLDS
        assert cache.visible()[:, WINDOW - len(kept) :].all()
    assert [tensor.data_ptr() for tensor in tensors(cache)] == buffers


def test_what_a_call_left_is_pushed_when_it_is_kept_and_dropped_where_told(draw):
    cache, right = empty(), empty()
    for _ in range(WINDOW + 2):
        left = [
            (draw(WORLDS, SITES, HEADS, 1, HEAD_DIM), draw(WORLDS, SITES, HEADS, 1, HEAD_DIM)) for _ in range(LAYERS)
        ]
        frame = draw(WORLDS, *FRAME)
        for layer, (key, value) in enumerate(left):
            cache.leave(layer, key, value)
            right.push(layer, key, value)
            cache.aside().leave(layer, -key, -value)  # changes nothing here
        cache.keep(frame)
        right.advance(frame)
        assert same(tensors(cache), tensors(right))
    cache.drop_pending(torch.tensor([False, True, False]))
    for layer, pair in enumerate(left):
        assert all(torch.equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(cache.pending_of(layer), pair, strict=True))
        assert not cache.pending[layer][1].any()


def test_turned_keys_are_the_keys_rotated_to_their_age(draw):
    cache = empty()
    for _ in range(WINDOW + 2):
        remember(cache, draw)
    for slot in range(WINDOW):
        cos, sin = rotary_table(torch.tensor([slot - WINDOW]), HEAD_DIM)
        for layer in range(LAYERS):
            right = rotate(cache.keys[layer][..., slot : slot + 1, :], cos, sin)
            assert torch.equal(cache.turned[layer][..., slot : slot + 1, :], right)


def test_the_previous_frame_is_the_last_one_committed(draw):
    cache = empty()
    frame = draw(WORLDS, *FRAME)
    cache.advance(draw(WORLDS, *FRAME))
    cache.advance(frame)
    assert torch.equal(cache.previous, frame)
    frame.zero_()
    assert cache.previous.any()


def test_clear_forgets_the_marked_worlds_and_no_others(draw):
    cache = empty()
    for _ in range(3):
        remember(cache, draw)
    before = bytes_of(cache)
    cache.keys[0][1, 0] = torch.nan
    cache.clear(torch.tensor([False, True, False]))
    assert same(bytes_of(cache, 1), bytes_of(empty(), 1))
    for world in (0, 2):
        assert same(bytes_of(cache, world), [tensor[world] for tensor in before])
    assert cache.visible().any(dim=1).tolist() == [True, False, True]


def test_forget_leaves_the_bytes_of_an_empty_cache(draw):
    cache = empty()
    remember(cache, draw)
    cache.values[1][0, 0] = torch.nan
    cache.forget()
    assert same(bytes_of(cache), bytes_of(empty()))


def test_a_clone_and_its_original_do_not_share_a_byte(draw):
    cache = empty()
    remember(cache, draw)
    clone, before = cache.clone(), bytes_of(cache)
    remember(clone, draw)
    assert same(bytes_of(cache), before)
    assert not same(bytes_of(clone), before)
    pointers = {tensor.data_ptr() for tensor in tensors(cache)}
    assert pointers.isdisjoint(tensor.data_ptr() for tensor in tensors(clone))


def test_the_cache_takes_dtype_from_the_frame(draw):
    cache = empty(torch.zeros(FRAME, dtype=torch.bfloat16))
    remember(cache, draw)
    dtypes = {tensor.dtype for tensor in tensors(cache)[:-1]}
    assert dtypes == {torch.bfloat16} and cache.frames.dtype == torch.int64


def test_rotation_keeps_lengths_and_depends_on_distance_alone(draw):
    query, key = draw(5, HEAD_DIM), draw(5, HEAD_DIM)
    scores = []
    for shift in (0, 1, -3, 10_000):
        tables = rotary_table(torch.arange(5) + shift, HEAD_DIM)
        turned = rotate(query, *tables), rotate(key, *tables)
        assert torch.allclose(turned[0].norm(dim=-1), query.norm(dim=-1))
        scores.append(turned[0] @ turned[1].T)
    assert torch.equal(rotate(query, *rotary_table(torch.zeros(5), HEAD_DIM)), query)
    assert all(torch.allclose(score, scores[0], rtol=0, atol=2e-3) for score in scores)
    assert all(torch.allclose(score, scores[0], rtol=0, atol=1e-5) for score in scores[:3])
    assert not torch.allclose(scores[0], query @ key.T, atol=1e-2)
