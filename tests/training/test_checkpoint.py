import os
import resource
import subprocess
import sys

import pytest
import torch
from torch import nn, optim

from worldsim_training import checkpoint

TENSORS = {"student/weight": torch.arange(6.0).reshape(2, 3), "generator": torch.Generator().get_state()}
NOTES = {"step": 3, "clips": {"generator": {"state": 2**100}}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.save(path, TENSORS, NOTES)
    return path


def is_whole(path):
    tensors, notes = checkpoint.load(path)
    return notes == NOTES and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_what_was_saved_is_loaded_and_nothing_lies_beside_it(path):
    assert is_whole(path) and checkpoint.load_notes(path) == NOTES
    assert set(checkpoint.load(path)[0]) == set(TENSORS)
    assert os.listdir(path.parent) == [path.name]


def test_a_kill_between_write_and_rename_leaves_the_old_checkpoint(path):
    program = f"""
import os, pathlib, torch
from worldsim_training import checkpoint
os.replace = lambda *paths: os._exit(9)
checkpoint.save(pathlib.Path({str(path)!r}), {{"student/weight": torch.zeros(4)}}, {{"step": 4}})
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 9
    assert sorted(os.listdir(path.parent)) == [path.name, path.name + ".part"]
    assert is_whole(path)
    checkpoint.save(path, TENSORS, NOTES)
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_rename_leaves_the_old_checkpoint_and_says_so(path, monkeypatch):
    def refuse(*paths):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"could not be written \(no\); the one before is whole"):
        checkpoint.save(path, {"student/weight": torch.zeros(4)}, {})
    assert is_whole(path) and os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_checkpoint(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="the one before is whole"):
            checkpoint.save(path, {"student/weight": torch.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_whole(path) and os.listdir(path.parent) == [path.name]


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="run/checkpoint.safetensors could not be written .* there was none before"):
        checkpoint.save(tmp_path / "run" / "checkpoint.safetensors", TENSORS, NOTES)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:200], lambda data: data[:-1], lambda data: b"", lambda data: b"x"]
)
def test_a_damaged_checkpoint_is_refused_in_one_line(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    for read in (checkpoint.load, checkpoint.load_notes):
        with pytest.raises(ValueError, match="is damaged .*; delete it to start the stage again") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load(tmp_path / "weights.safetensors")
    with pytest.raises(FileNotFoundError, match="no checkpoint .*; run the stage that writes it first"):
        checkpoint.load(tmp_path / "nothing.safetensors")


def test_unpack_undoes_pack_and_names_what_is_missing():
    packed = checkpoint.pack("student", {"a/b": torch.ones(2)}) | checkpoint.pack("average", {"a/b": torch.zeros(2)})
    assert torch.equal(checkpoint.unpack("student", packed)["a/b"], torch.ones(2))
    with pytest.raises(KeyError, match="no 'adam'"):
        checkpoint.unpack("adam", packed)


def test_adam_goes_on_as_if_it_had_never_been_packed():
    def make():
        network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        return network, optim.AdamW(network.parameters(), fused=False)

    def update(network, optimizer):
        optimizer.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    network, optimizer = make()
    update(network, optimizer)
    other, resumed = make()
    other.load_state_dict(network.state_dict())
    packed = {name: tensor.clone() for name, tensor in checkpoint.pack_adam(network, optimizer).items()}
    checkpoint.unpack_adam(other, resumed, packed)
    for each in ((network, optimizer), (other, resumed)):
        update(*each)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_adams_moments_come_back_laid_out_as_the_weights_which_its_fused_kernels_ask_for():
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer, resumed = (optim.AdamW(network.parameters(), fused=False) for _ in range(2))
    network(torch.ones(1, 3, 4, 4)).square().sum().backward()
    optimizer.step()
    packed = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.pack_adam(network, optimizer).items()
    }
    checkpoint.unpack_adam(network, resumed, packed)
    weight, moments = network.weight, resumed.state[network.weight]
    assert weight.stride() == (27, 1, 9, 3) == moments["exp_avg"].stride() == moments["exp_avg_sq"].stride()
    assert torch.equal(moments["exp_avg"], optimizer.state[weight]["exp_avg"])
