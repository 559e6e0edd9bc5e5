"""The worlds' noise: Gaussian by every test it is put to, and each world's its own."""

import math

import pytest
import torch

from worldsim.noise import NoiseStream, mix, normal_of

SHAPE = (3, 20, 33)  # 1980 numbers


def one(seed, shape=SHAPE, skip=0):
    stream = NoiseStream.of([seed])
    for _ in range(skip):
        stream.draw(SHAPE)
    return stream.draw(shape)[0]


def normal_cdf(x):
    return 0.5 * (1 + torch.erf(x.double() / math.sqrt(2)))


def kolmogorov(values):
    """Kolmogorov-Smirnov distance from the Gaussian, times the root of the count; 1.95 has probability 0.001."""
    ordered = normal_cdf(values.flatten().sort().values)
    ranks = torch.arange(len(ordered) + 1) / len(ordered)
    return torch.max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max()) * len(ordered) ** 0.5


STREAMS = {
    "one world's stream": lambda: one(7, (1_000_000,)),
    "the first frame of neighbouring seeds": lambda: NoiseStream.of(range(1000)).draw((1000,)),
    "one place of many seeds": lambda: NoiseStream.of(range(500_000)).draw((2,)),
    "seeds that differ in high bits": lambda: NoiseStream.of([seed << 50 for seed in range(1000)]).draw((1000,)),
}


@pytest.mark.parametrize("draw", STREAMS.values(), ids=STREAMS)
def test_the_noise_is_gaussian(draw):
    """Each bound is four standard errors of a million numbers, or a probability of 0.001."""
    values, count = draw().double(), 1_000_000
    assert values.numel() == count
    assert values.mean().abs() < 4 / count**0.5
    assert (values.var() - 1).abs() < 4 * (2 / count) ** 0.5
    assert (values**3).mean().abs() < 4 * (15 / count) ** 0.5
    assert ((values**4).mean() - 3).abs() < 4 * (96 / count) ** 0.5
    assert kolmogorov(values) < 1.95
    tail = (values.abs() > 4).double().sum()
    assert (tail - 63.3).abs() < 4 * 63.3**0.5


def test_its_quantiles_are_equally_likely():
    """Chi-squared of 256 equally likely bins, whose standard deviation is sqrt(2 * 255)."""
    for draw in STREAMS.values():
        bins = (normal_cdf(draw().flatten()) * 256).long().clamp(0, 255).bincount(minlength=256)
        expected = 1_000_000 / 256
        assert abs(((bins - expected) ** 2 / expected).sum() - 255) < 4 * (2 * 255) ** 0.5


PAIRS = {
    "neighbours": lambda: (one(3, (500_001,))[1:], one(3, (500_001,))[:-1]),
    "rows": lambda: (one(3, (1000, 500))[1:], one(3, (1000, 500))[:-1]),
    "the halves of a word": lambda: one(3, (500_000, 2)).unbind(1),
    "neighbouring worlds": lambda: (
        NoiseStream.of(range(500)).draw((1000,)),
        NoiseStream.of(range(1, 501)).draw((1000,)),
    ),
    "worlds far apart": lambda: (one(3, (500_000,)), one(3 + 2**40, (500_000,))),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_numbers_side_by_side_have_nothing_to_do_with_each_other(pair):
    """Correlations of the numbers, of their squares and of their signs, to four standard errors."""
    first, second = (each.double().flatten() for each in pair())
    for read in (lambda x: x, lambda x: (x**2 - 1) / 2**0.5, torch.sign):
        assert (read(first) * read(second)).mean().abs() < 4 / len(first) ** 0.5


def test_frames_of_successive_steps_have_nothing_to_do_with_each_other():
    stream = NoiseStream.of(range(50))
    frames = torch.stack([stream.draw(SHAPE).flatten(1).double() for _ in range(10)])
    for lag in (1, 2, 5):
        product = (frames[lag:] * frames[:-lag]).flatten()
        assert product.mean().abs() < 4 / len(product) ** 0.5


def test_a_worlds_noise_depends_on_its_seed_and_place_in_the_stream_alone():
    worlds = NoiseStream.of([5, 9, 5, -1])
    first, second = worlds.draw(SHAPE), worlds.draw(SHAPE)
    for place, seed in enumerate([5, 9, 5, -1]):
        assert torch.equal(first[place], one(seed)) and torch.equal(second[place], one(seed, skip=1))
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_its_bits_do_not_depend_on_threads_or_batch(threads):
    before = torch.get_num_threads()
    right = one(5, (3, 61, 67))
    try:
        torch.set_num_threads(threads)
        assert torch.equal(NoiseStream.of([1, 2, 3, 4, 5, 6, 7]).draw((3, 61, 67))[4], right)
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_its_bits_are_the_same_on_a_gpu():
    ours, theirs = (NoiseStream.of(range(16), device) for device in ("cpu", "cuda"))
    for _ in range(3):
        assert torch.equal(ours.draw((3, 64, 64)), theirs.draw((3, 64, 64)).cpu())


def test_mixing_is_the_published_function():
    """First words of SplitMix64 with seed 1234567 (as in the Java library and Rosetta Code)."""
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + step * golden) % 2**64 for step in (1, 2, 3)]
    words = mix(torch.tensor([state - 2**64 if state >= 2**63 else state for state in states]))
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [word % 2**64 for word in words.tolist()] == published


def test_the_quantile_is_exact_to_a_hundred_thousandth_into_the_far_tail():
    generator = torch.Generator().manual_seed(0)
    anywhere = torch.randint(-(2**31), 2**31, (100_000,), generator=generator)
    bits = torch.cat((anywhere, torch.arange(5000), -(2**31) + torch.arange(5000), torch.tensor([2**31 - 1, -1])))
    tail = ((bits % 2**31) | 1).double() / 2**31
    right = torch.special.ndtri(tail / 2) * torch.where(bits < 0, 1.0, -1.0).double()
    assert (normal_of(bits.to(torch.int32)) - right).abs().max() < 1e-5


def test_a_copy_goes_on_alike_and_a_world_put_elsewhere_too():
    stream = NoiseStream.of([5, 9])
    stream.draw(SHAPE)
    copy, pair = stream.clone(), NoiseStream.join([stream.select([1]), NoiseStream.of([3])])
    pair.put([1], stream.select([0]))
    right = stream.draw(SHAPE)
    assert torch.equal(copy.draw(SHAPE), right) and torch.equal(pair.draw(SHAPE), right.flip(0))


def test_an_odd_frame_and_one_number_are_drawn_too():
    stream = NoiseStream.of([1, 2])
    assert stream.draw((3,)).shape == (2, 3) and stream.draw(()).shape == (2,)
    assert stream.used.tolist() == [3, 3]
