"""The last stage of a run: the finished world, its start states and how it is to be played."""

import shutil

import numpy as np
import pytest
import torch
from dot_game import DotGame, InverseDotGame
from tiny_run import run

from worldsim.models.dit import CausalDiT
from worldsim.world_model import WorldModel
from worldsim_envs import games
from worldsim_training import checkpoint, loop

pytestmark = pytest.mark.usefixtures("one_thread", "dot_game")


@pytest.fixture
def trained(finished, tmp_path):
    """Folder of a run whose networks are trained and whose world is not written yet."""
    for stage in ("consistency", "outcomes"):
        shutil.copytree(finished / "run" / stage, tmp_path / "run" / stage)
    return tmp_path


def test_the_world_that_comes_out_is_the_networks_that_were_trained(finished):
    world = WorldModel.from_pretrained(finished / "run" / "world")
    assert (world.info.name, world.info.env_id, world.info.height, world.info.width) == ("dot", "Dot-v0", 16, 24)
    assert world.starts.frames.shape == (2, 3, 16, 24, 3) and world.starts.actions.shape == (2, 2)
    assert world.actions == DotGame.actions and world.heads.config.rewards == [0.0, 1.0]
    for stage, network in (("consistency", world.denoiser), ("outcomes", world.heads)):
        trained = checkpoint.unpack("average", checkpoint.load(finished / "run" / stage / loop.CHECKPOINT)[0])
        assert all(torch.equal(trained[name].bfloat16(), value) for name, value in network.state_dict().items())


def test_start_states_are_held_out_and_their_actions_lead_from_frame_to_frame(finished):
    world = WorldModel.from_pretrained(finished / "run" / "world")
    game = DotGame()
    for frames, actions in zip(world.starts.frames, world.starts.actions, strict=True):
        rows, columns = np.nonzero(frames[0, :, :, 0] == 255)
        game.restore((int(columns.min()), int(rows.min()), 0))
        for action, frame in zip(actions, frames[1:], strict=True):
            np.testing.assert_array_equal(game.step(action)[0], frame)


def test_how_a_world_plays_is_what_its_configuration_says(finished, trained):
    asked = {"default_steps": 4, "draws_ends": True, "drawn_end_reward": -3.0, "still_levels": 2}
    asked |= {"final_rewards": [1.0, 5.0]}
    changes = [f"world.{name}={value}" for name, value in asked.items()]
    assert run(trained, f"world.data.folder={finished / 'data'}", *changes, stage="export")
    info = WorldModel.from_pretrained(trained / "run" / "world").info
    assert {name: getattr(info, name) for name in asked} == asked | {"final_rewards": (1.0, 5.0)}


def test_settings_of_ends_that_change_nothing_are_told(finished, trained, capsys):
    data, said = f"world.data.folder={finished / 'data'}", capsys.readouterr
    assert run(trained, data, "world.final_rewards=[1.0,5.0]", "world.drawn_end_reward=-3", stage="export")
    error = said().err
    assert "warning: world.final_rewards has 5, which the head never says; it says 0, 1\n" in error
    assert "warning: world.drawn_end_reward changes nothing without world.draws_ends=true\n" in error
    drawn = ("world.draws_ends=true", "world.drawn_end_reward=-3", "world.final_rewards=[1.0]")
    assert run(trained, data, *drawn, stage="export") and "warning" not in said().err


def test_a_head_that_learnt_on_another_networks_frames_is_not_shipped_with_this_one(finished, trained):
    data, network = f"world.data.folder={finished / 'data'}", trained / "run" / "consistency" / "network"
    other = CausalDiT.from_pretrained(network, low_cpu_mem_usage=False)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save_pretrained(network)
    with pytest.raises(ValueError, match="outcomes learnt on frames of another network than .*run stage=outcomes"):
        run(trained, data, stage="export")
    assert not (trained / "run" / "world").exists()
    assert run(trained, data, "world.outcomes.painted=false", stage="export")


def test_start_states_are_moments_of_the_policies_asked_for(trained, monkeypatch, capsys):
    monkeypatch.setitem(games.GAMES, "dot", InverseDotGame)
    many = "world.data.frames=1000"  # so that each policy has a held-out episode
    assert run(trained, many, stage="collect")
    moved = {}
    for policies in ("[]", "[still]"):
        assert run(trained, many, f"world.start_policies={policies}", "world.starts=16", stage="export")
        moved[policies] = WorldModel.from_pretrained(trained / "run" / "world").starts.actions.any()
    assert moved == {"[]": True, "[still]": False}
    assert "no validation episode" not in capsys.readouterr().err
    few = f"world.data.folder={trained / 'few'}"
    for stage in ("collect", "export"):  # of 300 frames one episode is held out, and its policy is the first
        assert run(trained, few, "world.start_policies=[still]", stage=stage)
    assert "no validation episode is of still" in capsys.readouterr().err
    assert WorldModel.from_pretrained(trained / "run" / "world").starts.actions.any()
