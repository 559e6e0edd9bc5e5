"""The training command: its presets, its shipped configuration, and whole runs as a user starts them."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from tiny_run import TINY, TINY_VALIDATION, written

from worldsim_training import conf, config, plan
from worldsim_training.pipeline import Pipeline
from worldsim_training.plan import STAGES

pytestmark = pytest.mark.usefixtures("one_thread")


def composed(*words):
    config.register()
    with initialize_config_module("worldsim_training.conf", version_base="1.3"):
        return OmegaConf.to_object(compose("training", overrides=["device=cpu", *words]))


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ("consistency", "collect teacher_forcing consistency outcomes export"),
        ("causal_ode", "collect teacher_forcing ode outcomes export"),
        ("causal_forcing_pp", "collect teacher_forcing consistency dmd outcomes export"),
    ],
)
@pytest.mark.parametrize(
    "world", ["boxing", "carracing", "deadly_corridor", "encounter", "freeway", "minigrid", "take_cover"]
)
def test_a_preset_names_the_stages(preset, stages, world):
    made = composed(f"pipeline={preset}", f"world={world}")
    assert plan.stages(made) == stages.split() and made.world.name == world
    assert made.world.release == ("dmd" if "dmd" in stages else "distillation")


def test_a_command_without_a_preset_runs_what_the_preset_consistency_does():
    assert composed() == composed("pipeline=consistency")


def test_what_is_typed_wins_over_the_preset():
    chosen = composed("pipeline=causal_forcing_pp", "world.dmd.loop.steps=7", "gates.motion=[0.5,2]")
    assert chosen.world.dmd.loop.steps == 7 and tuple(chosen.gates.motion) == (0.5, 2.0)
    assert composed("gates.motion=null").gates.motion is None


@pytest.mark.parametrize("word", ["gates.movement=1", "world.dmd.patiense=2", "stag=export", "pipeline=cf"])
def test_an_unknown_key_is_refused_before_anything_runs(word):
    with pytest.raises(HydraException):
        composed(word)


def test_judging_by_other_gates_leaves_the_folders_of_a_multirun():
    config.register()
    with initialize_config_module("worldsim_training.conf", version_base="1.3"):
        job = compose("training", return_hydra_config=True).hydra.job
    gate_keys = {f"gates.{each.name}" for each in fields(config.GatesConfig)}
    assert set(job.config.override_dirname.exclude_keys) == {"out", "scale", "stage", "stop_after_s"} | gate_keys


def command(folder, *arguments, check=True):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "worldsim_training", *arguments]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def dotted(tree, prefix):
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        yield from dotted(value, name) if isinstance(value, dict) else (f"{name}={value}".replace(" ", ""),)


@pytest.mark.atari
def test_the_command_makes_a_world_of_boxing_that_plays(tmp_path):
    changes = {**TINY, "data": {"frames": 200, "episode_steps": 40, "clip_frames": 4}}
    changes["outcomes"] = {**TINY["outcomes"], "reward_share": 0.0, "end_share": 0.0, "lag": 3}
    words = [*dotted(changes, "world"), *dotted(TINY_VALIDATION, "validation_on_cpu"), "device=cpu", "compile=false"]
    words += ["gates.enabled=false"]  # four updates teach nothing
    command(tmp_path, *words)
    assert sorted(os.listdir(tmp_path)) == ["data", "runs"]
    env = gym.make("worldsim/Boxing-v0", world=str(tmp_path / "runs" / "boxing" / "world"))
    observation, _ = env.reset(seed=0)
    for action in (0, 3, 17):
        observation, reward, _, truncated, _ = env.step(action)
        assert observation.shape == (64, 64, 3) and np.isfinite(reward) and not truncated
    before = written(tmp_path / "runs" / "boxing" / "teacher_forcing")
    again = command(tmp_path, *words)
    assert again.stdout.count("finished before") + again.stderr.count("finished before") == 3
    assert written(tmp_path / "runs" / "boxing" / "teacher_forcing") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("world.model.dimm=8",), "Key 'dimm' not in 'ModelConfig'"),
        (("world.model.dim=wide",), "could not be converted to Integer"),
        (("world=ches",), "Could not find 'world/ches'"),
    ],
)
def test_a_key_or_world_that_is_unknown_is_refused(tmp_path, words, message):
    answer = command(tmp_path, *words, check=False)
    assert answer.returncode == 1 and message in answer.stderr
    assert not os.listdir(tmp_path)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    answer = command(tmp_path, "stage=colect", check=False)
    assert answer.returncode == 1 and not os.listdir(tmp_path)
    assert answer.stderr == f"worldsim_training: unknown stage 'colect'; use one of {', '.join(STAGES)}\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(conf.__file__).parent.glob("world/*.yaml")))
def test_every_world_that_is_configured_has_a_game_and_a_network(name):
    chosen = composed(f"world={name}")
    made = Pipeline(chosen)
    assert chosen.out == f"runs/{name}" and chosen.world.data.folder == f"data/{name}"
    assert made.game.name == name and sum(weight.numel() for weight in made._fresh().parameters()) > 1e5
    assert chosen.world.data.clip_frames > chosen.world.model.window


def test_the_shipped_configuration_names_every_setting(tmp_path):
    """The command composes and prints it; nothing is left open."""
    shown = OmegaConf.create(command(tmp_path, "--cfg", "job").stdout)
    assert not OmegaConf.missing_keys(shown)
    assert (shown.world.name, shown.out) == ("boxing", "runs/boxing")
    assert Path(shown.world.data.folder) == Path("data/boxing")
