"""Worlds as ONNX graphs, played without torch, against the same worlds in torch."""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import save_tiny_world, tiny_world

pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "worldsim[export]"')
pytest.importorskip("onnx", reason='needs onnx: pip install "worldsim[export]"')

from worldsim.export import add_arguments, export_world, run
from worldsim.exported.noise import Quantiles, Stream
from worldsim.exported.world import OnnxWorld
from worldsim.noise import NoiseStream, quantiles
from worldsim.world_files import write_manifest
from worldsim.world_model import WorldModel

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIONS = [2, 0, 1, 17, 5, 9]
SMALL = {"depth": 2, "dim": 16}


@pytest.fixture(scope="module")
def world():
    return tiny_world(**SMALL)


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    for precision in ("fp32", "int8"):
        export_world(world, root / precision, precision=precision)
    return root


def torch_reset(world, start, seed):
    """The torch world at one of its start states."""
    frames = torch.from_numpy(np.moveaxis(world.starts.frames[start], -1, 1)[None].copy())
    return world.reset(frames, torch.from_numpy(world.actions.encode(world.starts.actions[start])[None]), [seed])


def torch_play(world, start, seed, steps):
    """Frames (T, H, W, 3) uint8 of `ACTIONS` in torch."""
    state, vectors = torch_reset(world, start, seed), torch.from_numpy(world.actions.encode(ACTIONS))
    frames = [world.step(state, vector[None], steps=steps).frame[0] for vector in vectors]
    return torch.stack(frames).permute(0, 2, 3, 1).numpy()


def exported_play(folder, start, seed, steps):
    """The same of an exported world."""
    world = OnnxWorld(folder, threads=1)
    state = world.reset(start=start, seed=seed)
    return np.stack([world.step(state, vector, steps=steps).frame for vector in world.actions.encode(ACTIONS)])


def command(*argv):
    """What `worldsim export` does with those arguments."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(each) for each in argv]))


@pytest.mark.parametrize(("steps", "still", "final"), [(1, 0, ()), (2, 0, ()), (4, 0, ()), (2, 60, (-1.0, 0.0, 1.0))])
def test_from_the_same_memory_an_exported_world_paints_the_torch_worlds_frame_but_for_rounding(
    world, folders, monkeypatch, steps, still, final
):
    exported = OnnxWorld(folders / "fp32", threads=1)
    changes = {"still_levels": still, "final_rewards": final}
    monkeypatch.setattr(world, "info", replace(world.info, **changes))
    exported.info |= changes
    state, mine = torch_reset(world, 1, 2**63 + 5), exported.reset(start=1, seed=2**63 + 5)
    for vector in world.actions.encode(ACTIONS):
        right = world.step(state, torch.from_numpy(vector)[None], steps=steps)
        found = exported.step(mine, vector, steps=steps)
        off = np.abs(found.frame.astype(int) - right.frame[0].permute(1, 2, 0).numpy())
        assert off.max() <= still + 1 and (off > 0).mean() < 0.01
        assert (found.reward, found.ended) == (right.reward.item(), right.ended.item())
        assert found.ended or not final
        mine.past = (*mine.past[:-1], right.frame[0].permute(1, 2, 0).numpy())
        mine.memory = {name: tensor.numpy().copy() for name, tensor in state.cache.tensors().items()}
        assert mine.noise.used == state.noise.used.item()


def test_left_alone_an_exported_world_stays_within_a_grey_level_of_the_torch_world_at_mean(world, folders):
    expected, found = torch_play(world, 1, 8, 2), exported_play(folders / "fp32", 1, 8, 2)
    assert np.abs(found.astype(int) - expected).mean() < 1 and expected.std() > 10


def test_int8_weights_change_frames_by_a_few_grey_levels_and_take_less_than_half_the_bytes(world, folders):
    expected = torch_play(world, 0, 3, 2)
    frames = exported_play(folders / "int8", 0, 3, 2)
    off = np.abs(frames.astype(int) - expected)
    assert 0 < off.mean() < 2 and not np.array_equal(frames[0], frames[1])
    sizes = [(folders / name / "weights.bin").stat().st_size for name in ("int8", "fp32")]
    assert sizes[0] < sizes[1] / 2


def test_the_noise_is_the_same_bits_as_in_torch():
    table = Quantiles(*(each.numpy() for each in quantiles(torch.device("cpu"))))
    for seed in (0, -3, 2**63 - 1, 2**64 + 9):
        expected, stream = NoiseStream.of([seed]), Stream(seed)
        for shape in ((3, 5, 7), (50_000,)):
            assert np.array_equal(stream.draw(shape, table), expected.draw(shape)[0].numpy())


@pytest.mark.parametrize(("odds", "paid"), [(-0.7, None), (-0.7, -100.0), (0.7, -100.0)])
def test_ends_that_are_drawn_fall_and_pay_as_they_do_in_torch(world, folders, odds, paid):
    exported = OnnxWorld(folders / "fp32", threads=1)
    info = replace(world.info, draws_ends=True, drawn_end_reward=paid)
    exported.info |= {"drawn_end_reward": paid}
    drawing = WorldModel(info, world.actions, world.denoiser, world.heads, world.starts)
    seeds = [*range(60), -3, 2**64 + 9]
    stream = NoiseStream.of(seeds)
    stream.draw((5, 7))
    right = drawing.outcome(torch.ones(len(seeds)), torch.full((len(seeds),), odds), stream)
    state = exported.reset()
    state.noise.draw((5, 7), exported.quantiles)
    rewards, ended = zip(*(exported._drawn(1.0, odds, replace(state.noise, seed=seed)) for seed in seeds), strict=True)
    assert [*rewards] == right[0].tolist() and [*ended] == right[1].tolist()
    assert 5 < sum(ended) < len(ended) - 5


def test_a_clone_of_an_exported_worlds_state_is_a_save_state(folders):
    world = OnnxWorld(folders / "fp32", threads=1)
    state = world.reset(seed=4)
    vectors = world.actions.encode(ACTIONS)
    world.step(state, vectors[0])
    saved = state.clone()
    first = [world.step(state, vector).frame for vector in vectors]
    assert saved.step_count == 1
    assert np.array_equal([world.step(saved, vector).frame for vector in vectors], first)


def test_an_exported_world_is_played_without_torch(folders):
    code = f"""
from worldsim.exported.world import OnnxWorld
world = OnnxWorld({str(folders / "fp32")!r}, threads=1)
print(world.step(world.reset(), world.actions.encode(2)).frame.shape)
import sys; print("torch" in sys.modules or "diffusers" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["(48, 64, 3)", "False"]


def test_a_start_a_step_count_and_an_action_that_there_is_not_are_told_in_one_line(folders):
    world = OnnxWorld(folders / "fp32", threads=1)
    with pytest.raises(ValueError, match=r"start=3; this world has start states 0\.\.2"):
        world.reset(start=3)
    state = world.reset()
    with pytest.raises(ValueError, match="steps=3; this world paints in 1, 2, 4 denoising steps"):
        world.step(state, world.actions.encode(0), steps=3)
    with pytest.raises(ValueError, match=r"action has shape \(\); give one vector \(5,\)"):
        world.step(state, 2)
    assert state.step_count == 0 and state.noise.used == 0


@pytest.mark.parametrize("name", ["weights.bin", "commit.onnx", "exported.json", "arrays.npz"])
def test_a_changed_or_missing_file_is_named(folders, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(folders / "int8", folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name}' does not match its manifest"):
        OnnxWorld(folder)
    (folder / name).unlink()
    wrong = FileNotFoundError if name == "exported.json" else ValueError
    with pytest.raises(wrong, match="export"):
        OnnxWorld(folder)


def test_a_folder_of_an_older_schema_is_refused_and_the_error_says_how_to_make_it_anew(folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folders / "int8", folder)
    index = json.loads((folder / "exported.json").read_text()) | {"schema": 2}
    del index["lag"]
    (folder / "exported.json").write_text(json.dumps(index))
    write_manifest(folder)
    with pytest.raises(ValueError, match="schema is 2, this worldsim reads 3.*`worldsim export WORLD --out") as told:
        OnnxWorld(folder)
    assert "\n" not in str(told.value)


def test_a_damaged_manifest_and_a_folder_that_is_none_are_told(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no exported world; `worldsim export WORLD --out FOLDER`"):
        OnnxWorld(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(folders / "int8", folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="manifest.json' is damaged; export the world again"):
        OnnxWorld(folder)


def test_the_command_refuses_an_unknown_precision_and_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="unknown precision 'fp4'; use fp32 or int8"):
        command("boxing", "--out", tmp_path / "new", "--precision", "fp4")
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        command("boxing", "--out", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_world_in_half_precision_is_not_exported_and_the_error_says_how_to_load_it(tmp_path):
    world = tiny_world(**SMALL)
    world.denoiser.bfloat16()
    with pytest.raises(ValueError, match="load the world with dtype=torch.float32"):
        export_world(world, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_writes_a_world_that_plays(tmp_path, capsys):
    saved = save_tiny_world(tmp_path / "saved", **SMALL)
    assert command(saved, "--out", tmp_path / "out", "--precision", "int8") == 0
    assert "tiny in int8" in capsys.readouterr().out
    assert exported_play(tmp_path / "out", 0, 1, 2).shape == (len(ACTIONS), 48, 64, 3)
