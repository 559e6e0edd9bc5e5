"""The machine's limit and the work of a frame; the picture of a benchmark."""

import pytest
import torch
from PIL import Image
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_world

from worldsim import bench
from worldsim.benchmark import roofline
from worldsim.benchmark.plot import write_plot

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_work_of_a_patch_network_is_what_its_sizes_say():
    """Linear layers by hand: 2 x rows x in x out each; the convolutional head's share is counted apart."""
    model = tiny_world(stem_kind="patch", previous_frame=False, depth=1)
    tokens, dim, window, pixels = (HEIGHT // 8) * (WIDTH // 8), 32, 4, HEIGHT * WIDTH
    attention = 4 * tokens * tokens * dim + 2 * 2 * tokens * window * dim
    block = 2 * tokens * dim * (3 * dim + dim + 8 * dim + 3 * dim + dim) + attention
    ends = 2 * 2 * pixels * 3 * dim
    small = 2 * (2 * 128 * dim + 2 * dim * dim + 9 * dim * dim + 5 * dim + dim * dim + dim * dim)
    found = (roofline.frame_gflop(model, 2) - roofline.frame_gflop(model, 1)) * 1e9
    assert found == pytest.approx(block + ends + small, rel=0.01)


def test_the_share_is_the_work_over_the_time_and_the_machines_rate_pair_by_pair(monkeypatch):
    """A frame of 20 ms beside a product of 1 ms, then, on a machine twice as slow, of 40 beside 2: the same share."""
    model, turns = tiny_world(), iter([[0.02], [0.001], [0.04], [0.002], [0.04], [0.001]])
    monkeypatch.setattr(roofline, "PAIRS", 3)
    monkeypatch.setitem(roofline.SIDE, "cpu", 64)
    monkeypatch.setattr(roofline, "_times_s", lambda model, work: next(turns))
    report = roofline.roofline(model, steps=1)
    work = 2 * 64**3 / 1e9
    assert report["matmul_gflop_per_s"] == pytest.approx(work / 0.001)
    share = report["frame_gflop"] / 0.02 / (work / 0.001)
    assert report["roofline_share"] == report["roofline_share_max"] == pytest.approx(share)
    assert report["roofline_share_min"] == pytest.approx(share / 2)


def test_the_machines_product_is_made_in_each_precision_and_timed(monkeypatch):
    monkeypatch.setattr(roofline, "PAIR_CALLS", 3)
    for dtype in (torch.float32, torch.bfloat16):
        product = roofline.square_product(torch.device("cpu"), dtype)
        assert product().dtype == dtype and product()[0, 0] == roofline.SIDE["cpu"]
        times = roofline._times_s(tiny_world(), product)
        assert len(times) == 3 and min(times) > 0


def test_the_picture_is_written_by_the_command(tmp_path):
    pytest.importorskip("matplotlib")
    folder, file = save_tiny_world(tmp_path / "tiny"), tmp_path / "out" / "bench.png"
    parser = bench.argparse.ArgumentParser()
    bench.add_arguments(parser)
    words = [folder, "--plot", file, "--frames", 5, "--threads", 1, "--engine", "off"]
    assert bench.run(parser.parse_args([str(word) for word in words])) == 0
    with Image.open(file) as picture:
        assert picture.size == (1080, 420)


def test_two_benchmarks_make_two_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    report = {f"frame_ms_{share}": 2.0 for share in ("p50", "p95", "p99")} | {
        stage: 1.0 for stage in ("paint_ms", "heads_ms", "commit_ms", "convert_ms")
    }
    report |= {"world": "tiny", "fps_all_in": 100.0, "steps": 2}
    for name, times in (("a.png", [1.0, 2.0, 3.0]), ("b.png", [3.0, 2.0, 1.0])):
        write_plot(tmp_path / name, times, report)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
