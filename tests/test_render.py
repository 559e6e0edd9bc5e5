"""The two tracks: a session painted again by a many-step teacher, beside the few-step take."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser

from worldsim import render
from worldsim.replay import Replay, Round
from worldsim.rollout import remember, rollout
from worldsim.sampler import OdeSampler, ode_grid
from worldsim.world_files import write_manifest
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIONS = [3, 14, 0, 7, 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A training stage's folder with a teacher of another window than the student's."""
    stage = tmp_path_factory.mktemp("teacher_forcing")
    tiny_denoiser(seed=3, window=3).to(torch.bfloat16).save_pretrained(stage / "network")
    return stage


@pytest.fixture
def session(folder, tmp_path):
    env = WorldEnv(str(folder))
    frames = [env.reset(seed=5)[0], *(env.step(action)[0] for action in ACTIONS)]
    file = tmp_path / "session.json"
    Replay(str(folder), env.model.fingerprint, env.steps, [Round.of(5, ACTIONS, frames)], {}).save(file)
    return file, np.stack(frames)


def command(*words):
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    return render.run(parser.parse_args([str(word) for word in words]))


def takes(file, folder, stage, intervals=3):
    replay, world = Replay.load(file), WorldModel.from_pretrained(folder)
    premium = render.PremiumWorld(world, render.load_teacher(stage, folder, world), intervals=intervals)
    return [np.stack(render.paint(replay, each, "take")[0]) for each in (world, premium)]


def test_the_premium_take_is_the_teachers_own_ode_from_the_same_start_actions_and_noise(folder, stage, session):
    file, recorded = session
    realtime, premium = takes(file, folder, stage)
    assert np.array_equal(realtime, recorded) and np.array_equal(premium[0], recorded[0])
    world = WorldModel.from_pretrained(folder)
    env = WorldEnv(world)
    _, info = env.reset(seed=5)
    noise = env._state.noise
    teacher = render.load_teacher(stage, folder, world)
    past = torch.from_numpy(world.starts.frames[info["start"]]).permute(0, 3, 1, 2)[None]
    cache = teacher.new_cache(1)
    between = torch.from_numpy(np.array(world.actions.encode(world.starts.actions[info["start"]])))[None]
    with torch.no_grad():
        remember(teacher, cache, world.codec.encode(past), between)
        vectors = torch.from_numpy(np.array(world.actions.encode(np.array(ACTIONS))))[None]
        sampler = OdeSampler(ode_grid(3, world.info.shift).tolist())
        naive = rollout(teacher, sampler, cache, vectors, lambda: noise.draw((3, HEIGHT, WIDTH)))
    naive = world.codec.decode(naive[0]).permute(0, 2, 3, 1).numpy()
    # The plain network in bfloat16 rounds otherwise than the one for play, and commits frames that are not yet pixels.
    assert np.abs(premium[1].astype(int) - naive[0]).mean() < 1.0
    assert np.abs(realtime[1].astype(int) - naive[0]).mean() > 10.0


@pytest.mark.parametrize("suffix", [".gif", ".png", ".mp4"])
def test_both_takes_stand_side_by_side_in_the_file(folder, stage, session, tmp_path, suffix, capsys):
    if suffix == ".mp4":
        pytest.importorskip("av")
    out = tmp_path / f"both{suffix}"
    assert command(session[0], "--teacher", stage, "--intervals", 3, "--out", out) == 0
    assert str(out) in capsys.readouterr().out and out.stat().st_size > 500
    if suffix == ".gif":
        with Image.open(out) as clip:
            scale = clip.height // HEIGHT
            assert clip.width == scale * (2 * WIDTH + render.GAP) and clip.n_frames >= 2
            picture = np.asarray(clip.convert("RGB"))[::scale, ::scale].astype(int)
            assert (
                np.abs(picture[:, :WIDTH] - picture[:, WIDTH + render.GAP :]).max() < 40
            )  # one start, but for colours


@pytest.mark.parametrize("option", [("--teacher", "there"), ("--intervals", "8")])
def test_the_realtime_track_takes_no_teachers_options(session, tmp_path, option):
    with pytest.raises(ValueError, match="are for --track premium"):
        command(session[0], "--track", "realtime", *option, "--out", tmp_path / "take.gif")


def test_the_realtime_track_needs_no_teacher(session, tmp_path):
    assert command(session[0], "--track", "realtime", "--out", tmp_path / "take.gif") == 0
    with Image.open(tmp_path / "take.gif") as clip:
        assert clip.width * HEIGHT == clip.height * WIDTH


def test_the_teacher_in_a_worlds_folder_is_used_where_its_manifest_lists_it(folder, stage, tmp_path):
    own = save_tiny_world(tmp_path / "own")
    (stage / "network").rename(own / "teacher")
    try:
        world = WorldModel.from_pretrained(own)
        with pytest.raises(ValueError, match="does not list the teacher's files"):
            render.load_teacher(None, own, world)
        write_manifest(own)
        assert render.load_teacher(None, own, WorldModel.from_pretrained(own)).config.window == 3
        assert render.load_teacher(own, folder, world).config.window == 3
    finally:
        (own / "teacher").rename(stage / "network")
    assert render.load_teacher(folder, own, world).config.window == 4  # a world without a teacher is its own


def test_what_is_no_teacher_is_one_line_that_says_how_to_get_one(folder, stage, session, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="without its many-step teacher; .*--teacher runs/boxing/teacher_forcing"
    ):
        command(session[0], "--out", tmp_path / "x.gif")
    with pytest.raises(FileNotFoundError, match="holds no network"):
        command(session[0], "--teacher", tmp_path, "--out", tmp_path / "x.gif")
    tiny_denoiser(height=16, width=16).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is of another game"):
        command(session[0], "--teacher", tmp_path / "other", "--out", tmp_path / "x.gif")
    with pytest.raises(ValueError, match="ends in .mp4, .gif, .webp or .png"):
        command(session[0], "--teacher", stage, "--out", tmp_path / "x.avi")
    stored = json.loads(session[0].read_text())
    session[0].write_text(json.dumps(stored | {"checkpoint": "f" * 64}))
    with pytest.raises(ValueError, match="give the world it is of"):
        command(session[0], "--teacher", stage, "--out", tmp_path / "x.gif")
    assert not list(tmp_path.glob("x.*"))
