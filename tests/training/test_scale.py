"""Two processes train together as one would, whole or in shards."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scale_stages
import torch

from worldsim_training import checkpoint, loop, processes
from worldsim_training.config import LoopConfig
from worldsim_training.journal import read_log

PROGRAM = Path(scale_stages.__file__)
NAMES = [make.__name__ for make in scale_stages.MAKERS]
SCALES = ("ddp", "fsdp")

pytestmark = pytest.mark.usefixtures("one_thread")


def torchrun(folder, *arguments):
    """Two processes of the program, as `torchrun --nproc-per-node 2` starts them."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    paths = os.pathsep.join((str(PROGRAM.parent), *sys.path))
    settings = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        (*launcher, *arguments), cwd=folder, env=settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every stage trained by two processes at both scales, and by one."""
    folder = tmp_path_factory.mktemp("scale")
    torchrun(folder, str(PROGRAM), str(folder), *SCALES)
    for make in scale_stages.MAKERS:
        scale_stages.train(make, folder / "data", folder / "one" / make.__name__, "ddp")
    return folder


def load(folder):
    return checkpoint.load(folder / loop.CHECKPOINT)


def assert_alike(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.shape == other[name].shape and value.dtype == other[name].dtype, name
        assert (value.double() - other[name].double()).abs().max() < tolerance, name


def moved(before, after):
    return max((before[name].double() - after[name].double()).abs().max().item() for name in before)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "distribution_matching"])
def test_two_processes_train_what_one_does_to_1e_5(trained, name, scale):
    (one, notes), (two, their_notes) = load(trained / "one" / name), load(trained / scale / name)
    assert_alike(one, two)
    assert moved(checkpoint.unpack("student", one), checkpoint.unpack("average", one)) > 1e-5  # there was an update
    assert notes["clips"] == their_notes["clips"] and notes["step"] == their_notes["step"]
    rows, their_rows = ([*read_log(trained / where / name)] for where in ("one", scale))
    assert [row["step"] for row in rows] == [row["step"] for row in their_rows]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in their_rows], abs=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_two_processes_go_on_from_their_checkpoint_as_one_does(trained, scale):
    """The stage of two networks; two updates and a new start and two more, against four by one process."""
    name = "distribution_matching"
    if not (trained / "straight").exists():
        scale_stages.train(scale_stages.distribution_matching, trained / "data", trained / "straight", "ddp", steps=4)
    (one, notes), (two, their_notes) = load(trained / "straight"), load(trained / scale / name)
    assert_alike(one, two)
    assert notes["step"] == their_notes["step"] == 4
    assert notes["best_score"] == pytest.approx(their_notes["best_score"], rel=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_one_process_goes_on_where_two_stopped(trained, tmp_path, scale):
    make = scale_stages.teacher_forcing
    shutil.copytree(trained / scale / make.__name__, tmp_path / "resumed")
    for folder in ("straight", "resumed"):
        scale_stages.train(make, trained / "data", tmp_path / folder, "ddp", steps=4)
    (straight, notes), (resumed, their_notes) = load(tmp_path / "straight"), load(tmp_path / "resumed")
    assert_alike(straight, resumed)
    assert notes["step"] == their_notes["step"] == 4


@pytest.mark.parametrize("scale", SCALES)
def test_a_fault_in_one_process_is_raised_in_both_before_the_update(trained, scale):
    assert float((trained / scale / "failed.txt").read_text()) == 1.0
    assert not (trained / scale / "fault" / loop.CHECKPOINT).exists()


def test_the_whole_batch_is_shared_out_row_by_row(monkeypatch):
    whole = torch.arange(12.0).reshape(2, 6)
    monkeypatch.setattr(processes, "count", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        parts.append(processes.rows(whole, axis=1))
    assert torch.equal(torch.stack(parts, dim=-1).flatten(1), whole)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 4)
    config = LoopConfig(steps=1, batch=12, accumulate=2, learning_rate=1e-3)
    message = "loop.batch=12 in 2 micro-batches makes 6 clips at once, which 4 processes cannot share evenly; let their"
    with pytest.raises(ValueError, match=message):
        loop.clips_at_once(config)
    with pytest.raises(
        ValueError, match="painted_share=0.5 takes 6 of 12 clips, which 4 processes cannot share evenly"
    ):
        processes.first_clips(0.5, 3, "painted_share")
    assert processes.first_clips(0.75, 4, "painted_share") == 3


@pytest.mark.gpu
def test_two_gpus_train_what_one_does(tmp_path, monkeypatch):
    """NCCL, one process a GPU; a GPU's sums come in another order, so that less is asked than of a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    torchrun(tmp_path, str(PROGRAM), str(tmp_path), *SCALES, "--device", "cuda")
    for make in scale_stages.MAKERS:
        steps = 4 if make is scale_stages.distribution_matching else 2
        one = tmp_path / "one" / make.__name__
        scale_stages.train(make, tmp_path / "data", one, "ddp", steps=steps, device="cuda")
        for scale in SCALES:
            tensors, theirs = load(one)[0], load(tmp_path / scale / make.__name__)[0]
            assert_alike(tensors, theirs, tolerance=1e-4)
    assert [float((tmp_path / scale / "failed.txt").read_text()) for scale in SCALES] == [1.0, 1.0]
