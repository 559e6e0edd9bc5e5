"""Passes traced for the compiler, and compiled, against the packed network; memory that the process keeps."""

import ctypes
import shutil

import pytest
import torch
from test_engine import in_bfloat16, needs_kernels, play
from tiny import HEIGHT, WIDTH, tiny_denoiser

from worldsim import engine
from worldsim.engine import native
from worldsim.engine.memory import LARGEST_BYTES, keep_memory

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def packed():
    return engine.packed(in_bfloat16(), [0.4])


def asked(network, frames):
    """A frame, its action and a memory of so many frames."""
    generator = torch.Generator().manual_seed(1)
    cache, action = network.new_cache(1), torch.ones(1, 5)
    for _ in range(frames):
        network.commit(torch.randn(1, 3, HEIGHT, WIDTH, generator=generator), action, cache)
    return torch.randn(1, 3, HEIGHT, WIDTH, generator=generator), action, cache


@needs_kernels
@pytest.mark.parametrize("frames", [1, 6])
def test_a_traced_denoising_pass_answers_what_the_packed_one_does_at_any_level_and_with_any_memory(packed, frames):
    work = native.traced(native.DenoisePass(packed)).module()
    x, action, cache = asked(packed, frames)
    for sigma in (1.0, 0.4):
        expected = packed(x, torch.tensor([sigma]), action, cache)
        found = work(x, native.constants(packed.level_of(sigma)), packed.steer_of(action), cache.tensors())
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@needs_kernels
def test_a_traced_commit_leaves_the_memory_that_the_packed_one_does(packed):
    work = native.traced(native.CommitPass(packed)).module()
    x, action, cache = asked(packed, 3)
    other = cache.clone()
    packed.commit(x, action, cache)
    work(x, native.constants(packed.level_of(0.0)), packed.steer_of(action), other.tensors())
    for name, tensor in cache.tensors().items():
        assert (other.tensors()[name] - tensor).abs().max() <= 0.03 * tensor.abs().max(), name
    assert torch.equal(cache.frames, other.frames) and torch.equal(cache.previous, other.previous)


@needs_kernels
def test_a_traced_pass_over_two_frames_answers_and_remembers_what_the_packed_one_does(packed):
    work = native.traced(native.BothPass(packed)).module()
    x, action, cache = asked(packed, 3)
    other, frames, steers = cache.clone(), torch.cat((x, -x)), torch.cat([packed.steer_of(action)] * 2)
    expected = packed.advance(x, action, -x, 0.4, action, cache)
    found = work(frames, native.constants(packed.pair_of(0.4)), steers, other.tensors())
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    for name, tensor in cache.tensors().items():
        assert (other.tensors()[name] - tensor).abs().max() <= 0.03 * tensor.abs().max(), name


@needs_kernels
@pytest.mark.parametrize("work", [native.CommitPass, native.BothPass, native.KeepPass])
def test_the_turns_of_keys_are_constants_of_the_compiled_code(packed, work):
    names = {str(node.target) for node in native.traced(work(packed)).graph.nodes}
    assert any("mul" in name for name in names) and not any("cos" in name or "pow" in name for name in names)


@needs_kernels
def test_compiled_code_gets_its_inputs_in_the_order_of_the_traced_pass(packed):
    example = native.DenoisePass(packed).example()
    expected = torch.utils._pytree.tree_leaves(example)
    found = native.leaves(example)
    assert len(found) > 20 and len(found) == len(expected)
    assert all(a is b for a, b in zip(found, expected, strict=True))


@needs_kernels
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_code_answers_what_the_packed_network_does_and_is_found_again_on_disk(packed, tmp_path):
    network = native.compiled(packed, tmp_path)
    x, action, cache = asked(packed, 6)
    for sigma in (1.0, 0.4):
        expected = packed(x, torch.tensor([sigma]), action, cache)
        found = network(x, torch.tensor([sigma]), action, cache)
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    other = cache.clone()
    expected = packed.advance(x, action, -x, 0.4, action, cache)
    found = network.advance(x, action, -x, 0.4, action, other)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert (other.keys[0] - cache.keys[0]).abs().max() < 0.03 * cache.keys[0].abs().max()
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.pt2")}
    assert len(files) == len(native.PASSES)
    kept, right = cache.clone(), cache.clone()
    network.at_level(x, 0.4, action, kept, leave=True)
    network.keep(-x, kept)
    packed.at_level(x, 0.4, action, right, leave=True)
    packed.keep(-x, right)
    for name, tensor in right.tensors().items():
        assert (kept.tensors()[name] - tensor).abs().max() <= 0.03 * tensor.abs().max(), name
    again = native.compiled(packed, tmp_path)
    assert torch.equal(again(x, torch.ones(1), action, cache), network(x, torch.ones(1), action, cache))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.pt2")} == files
    assert torch.equal(play(network), play(packed))  # two worlds: the packed network's


@needs_kernels
def test_without_a_compiler_a_warning_says_so_and_the_packed_network_plays(packed, tmp_path, no_compiler):
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler was found; install g\\+\\+ or clang"):
        assert native.compiled(packed, tmp_path) is packed


@needs_kernels
def test_a_compiler_that_fails_and_code_that_does_not_load_are_one_warning_and_the_packed_network_plays(
    packed, tmp_path, monkeypatch
):
    def fails(*_):
        raise RuntimeError("the compiler\nsays no")

    monkeypatch.setattr(native, "_has_compiler", lambda: True)
    monkeypatch.setattr(native, "_compile", fails)
    with pytest.warns(UserWarning, match="failed \\(the compiler says no\\); playing without"):
        assert native.compiled(packed, tmp_path) is packed
    monkeypatch.setattr(
        native,
        "_compile",
        lambda module, file: (file.parent.mkdir(parents=True, exist_ok=True), file.write_bytes(b"no code")),
    )
    with pytest.warns(UserWarning, match="failed .*; playing without"):
        assert native.compiled(packed, tmp_path) is packed
    assert not [*tmp_path.rglob("*.pt2")]  # the next start compiles anew


def test_a_network_that_is_not_packed_is_played_as_it_is_and_a_warning_says_so(tmp_path):
    plain = tiny_denoiser()
    with pytest.warns(UserWarning, match="only bfloat16 worlds on a CPU"):
        assert engine.compiled(plain, tmp_path) is plain


@needs_kernels
def test_other_weights_are_compiled_anew(packed):
    assert native.fingerprint(packed) == native.fingerprint(engine.packed(in_bfloat16(), [0.4]))
    assert native.fingerprint(packed) != native.fingerprint(engine.packed(in_bfloat16(seed=1), [0.4]))


class Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd rest1 rest2 rest3 rest4 top".split()
    ]


def test_blocks_of_a_pass_are_not_mapped_anew_once_memory_is_kept():
    if not keep_memory():
        pytest.skip("another C library than glibc")
    tell = ctypes.CDLL(None).mallinfo2
    tell.restype = Mallinfo
    before = tell().hblks
    block = torch.empty(LARGEST_BYTES // 2, dtype=torch.uint8)
    assert tell().hblks == before and len(block) == LARGEST_BYTES // 2
