"""The PPO example, run as a user would run it, on a small world and a small real game; and what it writes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from worldsim.action import ActionSpec
from worldsim.world_info import Starts, WorldInfo
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv
from worldsim_envs.games import game_class
from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig, PolicyPlayer, check_policy
from worldsim_envs.record import load_agent
from worldsim_training.collect import CollectConfig, collect
from worldsim_training.dataset import Recording

ROOT = Path(__file__).resolve().parents[1]
SMALL = "--num-envs 4 --rollout 8 --minibatches 2 --epochs 2 --dim 32 --episode-steps 20 --episodes 3 --denoising 1"
DOT = """
import numpy as np
from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game


class Bright(Game):
    '''Each step earns 1 for `up` and nothing else; the frame never changes. 20 steps.'''

    name, env_id, licence, packages = "bright", "Bright-v0", "none", ()
    fps, height, width, max_episode_steps = 15, 16, 24, 20
    actions = ActionSpec([Channel("up")], [[0], [1]])

    def reset(self, seed):
        self.steps = 0
        return np.full((16, 24, 3), 90, np.uint8)

    def step(self, action):
        self.steps += 1
        return np.full((16, 24, 3), 90, np.uint8), float(action), self.steps == 20

    def save(self):
        return self.steps

    def restore(self, state):
        self.steps = state
        return np.full((16, 24, 3), 90, np.uint8)

    def close(self):
        pass

    @classmethod
    def policies(cls):
        return {"random": lambda rng: lambda game: int(rng.integers(2))}


class Pedal(Bright):
    '''The same with a pedal: a step earns how far it is down.'''

    name, actions, choices = "pedal", ActionSpec([Channel("up", "pedal")]), ((0.2,), (0.0,), (0.9,))

    def step(self, action):
        return super().step(self.actions.encode(action).item())

    @classmethod
    def policies(cls):
        return {"random": lambda rng: lambda game: rng.random(1)}


class Unnamed(Pedal):
    choices = ()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the small game's adapter and a random world of it."""
    folder = tmp_path_factory.mktemp("ppo")
    (folder / "bright.py").write_text(DOT)
    denoiser = tiny.tiny_denoiser(height=16, width=24, action_size=1)
    heads = tiny.OutcomeHead(16, 24, width_conv=8)
    starts = Starts(np.full((2, 4, 16, 24, 3), 90, np.uint8), np.zeros((2, 3), np.int64))
    info = WorldInfo("bright", "Bright-v0", 16, 24, 15, 4, max_episode_steps=20, shift=2.0)
    actions = ActionSpec([tiny.Channel("up")], [[0], [1]])
    WorldModel(info, actions, denoiser, heads, starts).save_pretrained(folder / "world")
    return folder


def run(folder, *words):
    command = [sys.executable, ROOT / "examples" / "ppo_boxing.py", "world", *SMALL.split(), "--game", "bright:Bright"]
    done = subprocess.run([*command, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_a_policy_that_learns_in_the_real_game_beats_chance_there_and_plays_elsewhere(folder):
    code, out, error = run(folder, "--real", "--out", "real", "--frames", 640, "--learning-rate", 0.01)
    assert code == 0, error
    result = json.loads((folder / "real" / "result.json").read_text())
    assert np.mean(result["scores"]) >= 19 > 15 > np.mean(result["random_scores"])
    assert "| the real game | 640 |" in out
    assert (folder / "real" / "curves.png").stat().st_size > 1000
    for name in ("result.json", "curve.json", "curves.png"):  # as where the policy alone came from elsewhere
        (folder / "real" / name).unlink()
    code, out, error = run(folder, "--out", "real", "--test")  # in the game and as it was trained, whatever is asked
    assert code == 0, error
    assert "| the real game | 640 |" in out
    assert json.loads((folder / "real" / "result.json").read_text()) == result
    agent = load_agent(str(folder / "real" / "policy"), WorldEnv(str(folder / "world")), np.random.default_rng(0))
    assert [agent(np.full((16, 24, 3), 90, np.uint8)) for _ in range(8)].count(1) >= 7


def test_a_policy_of_a_game_of_vectors_learns_among_its_choices(folder):
    settings = ("--frames", 640, "--learning-rate", 0.01, "--reward-scale", 2.0)
    code, _, error = run(folder, "--real", "--game", "bright:Pedal", "--out", "pedal", *settings)
    assert code == 0, error
    assert np.mean(json.loads((folder / "pedal" / "result.json").read_text())["scores"]) >= 16
    player = PolicyPlayer(PixelPolicy.from_pretrained(folder / "pedal" / "policy"), np.random.default_rng(0))
    assert player(np.full((1, 16, 24, 3), 90, np.uint8)).tolist() == [[np.float32(0.9)]]
    spec = ActionSpec([tiny.Channel("up", "pedal")])
    check_policy(player.policy, (16, 24, 3), spec, "pedal")
    with pytest.raises(ValueError, match="16x24 frames and vectors of 1; here are 16x24 and 2 actions"):
        load_agent(str(folder / "pedal" / "policy"), WorldEnv(str(folder / "world")), np.random.default_rng(0))


@pytest.fixture
def example(folder, monkeypatch):
    """The example as a module, and a way to call it with arguments."""
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location("ppo_boxing", ROOT / "examples" / "ppo_boxing.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ppo_boxing", module)
    spec.loader.exec_module(module)

    def call(*words):
        asked = ["ppo_boxing.py", "world", *SMALL.split(), "--game", "bright:Bright", *map(str, words)]
        monkeypatch.setattr(sys, "argv", asked)
        module.main()

    return module, call


def test_a_run_in_the_imagined_game_goes_on_where_it_was_ended_and_refuses_other_settings(
    folder, example, capsys, monkeypatch
):
    module, call = example
    monkeypatch.setattr(module, "KEEP_EVERY", 1)
    learn, calls = module.learn, []

    def dying(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learn(*given)

    monkeypatch.setattr(module, "learn", dying)
    with pytest.raises(KeyboardInterrupt):
        call("--out", "dream", "--frames", 128)
    assert [row["frames"] for row in json.loads((folder / "dream" / "curve.json").read_text())] == [32, 64]
    kept = module.checkpoint.load(folder / "dream" / "checkpoint.safetensors")[0]
    taken_up = []

    def looking(config, policy, optimizer, data):
        taken_up.append({name: weight.clone() for name, weight in policy.state_dict().items()})
        return learn(config, policy, optimizer, data)

    monkeypatch.setattr(module, "learn", looking)
    call("--out", "dream", "--frames", 128)
    assert len(taken_up) == 2 and all(kept[f"policy/{name}"].equal(weight) for name, weight in taken_up[0].items())
    assert [row["frames"] for row in json.loads((folder / "dream" / "curve.json").read_text())] == [32, 64, 96, 128]
    assert "| the imagined game | 128 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="dream holds a run with another frames; choose another --out"):
        call("--out", "dream", "--frames", 96)
    with pytest.raises(SystemExit):
        call("--out", "nowhere", "--test")
    assert "nowhere holds no policy to test; train one without --test" in capsys.readouterr().err


def test_a_game_of_vectors_that_names_no_choices_is_refused_in_one_line(folder, example, capsys):
    with pytest.raises(SystemExit):
        example[1]("--out", "unnamed", "--game", "bright:Unnamed")
    error = capsys.readouterr().err
    assert "error: pedal has no table of actions to try one by one; name some in Game.choices" in error
    assert not (folder / "unnamed").exists()


def test_an_adapter_of_another_game_than_the_world_imagines_is_refused_before_training(folder, example, capsys):
    with pytest.raises(SystemExit):
        example[1]("--out", "elsewhere", "--game", "minigrid")
    assert "minigrid is an adapter of MiniGrid-DoorKey-6x6-v0; this world imagines Bright-v0" in capsys.readouterr().err


def test_a_player_sees_its_last_frames_oldest_first_and_the_first_for_those_before_it():
    player = PolicyPlayer(PixelPolicy(PolicyConfig(16, 24, 5, stack=3, dim=8)), np.random.default_rng(0))
    frames = [np.full((1, 16, 24, 3), level, np.uint8) for level in range(4)]
    seen = []
    for frame in frames:
        assert player(frame).shape == (1,)
        seen.append(player._seen[0, :, 0, 0, 0].tolist())
    assert seen == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    player.reset()
    player(frames[2])
    assert player._seen[0, :, 0, 0, 0].tolist() == [2, 2, 2]


def test_a_policy_comes_back_from_its_folder_and_a_damaged_or_foreign_one_is_one_line(folder, tmp_path):
    policy = PixelPolicy(PolicyConfig(48, 64, 18, dim=8))
    policy.save_pretrained(tmp_path / "policy")
    again = PixelPolicy.from_pretrained(tmp_path / "policy")
    assert all((a == b).all() for a, b in zip(policy.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="48x64 frames and 18 actions; here are 16x24 and 2"):
        load_agent(str(tmp_path / "policy"), WorldEnv(str(folder / "world")), np.random.default_rng(0))
    os.truncate(tmp_path / "policy" / "policy.safetensors", 100)
    with pytest.raises(ValueError, match="is damaged .*; save it again"):
        PixelPolicy.from_pretrained(tmp_path / "policy")
    with pytest.raises(FileNotFoundError, match="has no policy.json"):
        PixelPolicy.from_pretrained(tmp_path)


def test_a_run_from_recorded_openings_begins_at_real_moments_and_stays_near_them(folder, example, monkeypatch):
    module, call = example
    collect(CollectConfig(out="data", game="bright:Bright", frames=400, workers=1), game_class("bright:Bright"))
    seen = []

    class Watched(module.Imagined):
        def __init__(self, config, device):
            super().__init__(config, device)
            seen.append(self.env)

    monkeypatch.setattr(module, "Imagined", Watched)
    call("--out", "branches", "--frames", 64, "--openings", "data", "--branch-steps", 6, "--moments", 5)
    (worlds,), recorded = seen, Recording.load("data", "train", progress=False).frames
    assert worlds.rules.limit == 6
    ends = worlds.model.starts.frames[:, -1]
    assert len(ends) == 5 and all((recorded == end).all(axis=(1, 2, 3)).any() for end in ends)
    meta = json.loads(Path("data/meta.json").read_text())
    Path("data/meta.json").write_text(json.dumps(meta | {"game": "dark"}))
    for wrong in (("data", "--real"), ("data",), ("nowhere",)):
        with pytest.raises(SystemExit):
            call("--out", "nowhere", "--openings", *wrong)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cuda:99"), "ppo_boxing: "),
        (("--epochs", 0), "0"),
        (("--minibatches", 9999), "--minibatches of at least 2 steps"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_no_folder(folder, words, said):
    code, _, error = run(folder, "--out", "none", *words)
    assert code and said in error.splitlines()[-1] and "Traceback" not in error
    assert not (folder / "none").exists()
