import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import counting_game
import numpy as np
import pytest
import torch
from counting_game import CountingGame, LargeCountingGame

from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig
from worldsim_training.collect import CollectConfig, collect, ensure, record_episode
from worldsim_training.config import DataConfig
from worldsim_training.episodes import SPLITS, is_whole, read_episode, write_episode

SIZES = LargeCountingGame.height, LargeCountingGame.width
COMMAND = [sys.executable, "-m", "worldsim_training.collect"]


def record(folder, *, game=CountingGame, frames=400, workers=1, **settings):
    return collect(CollectConfig(out=str(folder), game="counting", frames=frames, workers=workers, **settings), game)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_cli(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)


def test_options_may_stand_between_and_after_what_is_set(tmp_path):
    answer = run_cli(f"out={tmp_path}", "--cfg", "job", "frames=7", "--resolve", "seed=3")
    assert answer.returncode == 0 and {f"out: {tmp_path}", "frames: 7", "seed: 3"} <= {*answer.stdout.splitlines()}
    answer = run_cli(f"out={tmp_path}", "--quiet", "frames=7")
    assert answer.returncode == 2 and "unrecognized arguments: --quiet" in answer.stderr


def test_what_is_recorded_does_not_depend_on_the_number_of_workers(tmp_path):
    record(tmp_path / "one", workers=1)
    record(tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


@pytest.fixture
def trained(tmp_path):
    """A policy's folder: it has random weights and never rests."""
    torch.manual_seed(0)
    policy = PixelPolicy(PolicyConfig(*SIZES, 3, dim=8))
    policy.action.bias.data[0] = -100
    policy.save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def test_a_trained_policy_takes_its_turn_and_its_episodes_do_not_depend_on_the_number_of_workers(tmp_path, trained):
    asked = {"game": LargeCountingGame, "policies": ["random", str(trained)]}
    metas = [record(tmp_path / f"{n}", workers=n, **asked) for n in (1, 2)]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert metas[0]["policies"][0] == "random" and metas[0]["policies"][1].startswith(f"{trained} (")
    played = {"random": [], str(trained): []}
    for each in metas[0]["episodes"]:
        played[each["policy"]] += read_episode(tmp_path / "1" / each["file"], each["sha256"]).actions.tolist()
    assert 0 not in played[str(trained)] and {*played["random"]} == {0, 1, 2}


def test_a_recording_by_other_weights_is_not_continued_and_a_policy_of_another_game_is_refused(tmp_path, trained):
    asked = {"game": LargeCountingGame, "policies": [str(trained)]}
    record(tmp_path / "data", **asked)
    PixelPolicy(PolicyConfig(*SIZES, 3, dim=8)).save_pretrained(trained)
    with pytest.raises(ValueError, match="holds another recording: policies is"):
        record(tmp_path / "data", **asked)
    PixelPolicy(PolicyConfig(*SIZES, 99, dim=8)).save_pretrained(trained)
    with pytest.raises(ValueError, match="is of a game with .* 99 actions"):
        record(tmp_path / "other", **asked)


def test_an_interrupted_recording_is_continued_to_the_same_bytes(tmp_path):
    record(tmp_path)
    whole = contents(tmp_path)
    meta = json.loads(whole["meta.json"])
    meta["complete"] = False
    (tmp_path / meta["episodes"][0]["file"]).write_bytes(b"cut")
    (tmp_path / meta["episodes"][3]["file"]).unlink()
    (tmp_path / "train" / ".000009.npz.123.part").write_bytes(b"half")
    meta["episodes"] = meta["episodes"][:8]
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    kept = tmp_path / meta["episodes"][1]["file"]
    written_at = kept.stat().st_mtime_ns
    record(tmp_path)
    assert contents(tmp_path) == whole
    assert kept.stat().st_mtime_ns == written_at


def test_an_episode_that_is_lost_from_a_recording_comes_back_wherever_it_was(tmp_path):
    meta = record(tmp_path)
    whole = contents(tmp_path)
    for entry in meta["episodes"]:
        (tmp_path / entry["file"]).unlink()
        record(tmp_path)
        assert contents(tmp_path) == whole


class InverseCountingGame(CountingGame):
    """The same game in other pictures."""

    def _frame(self):
        return 255 - super()._frame()


def test_an_interrupted_recording_is_not_continued_in_other_pictures(tmp_path):
    meta = record(tmp_path)
    (tmp_path / meta["episodes"][0]["file"]).unlink()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"counting now shows other pictures than {tmp_path} has"):
        record(tmp_path, game=InverseCountingGame)
    assert contents(tmp_path) == before


def test_every_split_gets_its_share_of_frames_and_of_policies(tmp_path):
    meta = record(tmp_path, frames=2000)
    longest = CountingGame.max_episode_steps + 1
    for split, share in zip(SPLITS, (0.9, 0.05, 0.05), strict=True):
        assert 2000 * share <= meta["split_frames"][split] < 2000 * share + longest
        assert {each["policy"] for each in meta["episodes"] if each["split"] == split} == {"random", "switching"}
    assert meta["frames"] == sum(meta["split_frames"].values())


def test_the_shortest_recording_still_has_an_episode_in_every_split(tmp_path):
    meta = record(tmp_path, frames=1)
    assert [each["split"] for each in meta["episodes"]] == list(SPLITS)


def test_episodes_of_different_splits_have_different_seeds_and_differ(tmp_path):
    meta = record(tmp_path)
    seeds = [tuple(each["seed"]) for each in meta["episodes"]]
    assert len(set(seeds)) == len(seeds)
    assert {seed[1] for seed in seeds} == {0, 1, 2}
    assert len({each["sha256"] for each in meta["episodes"]}) > 0.9 * len(seeds)


def test_an_entry_tells_the_truth_about_its_episode(tmp_path):
    meta = record(tmp_path)
    for entry in meta["episodes"]:
        episode = read_episode(tmp_path / entry["file"], entry["sha256"])
        again = record_episode(CountingGame(), entry["policy"], tuple(entry["seed"]), 12)
        assert episode.frames.shape == (entry["steps"] + 1, 6, 9, 3)
        assert episode.actions.dtype == np.int64 and episode.rewards.dtype == np.float32
        assert episode.rewards.sum() == entry["return"] and np.count_nonzero(episode.rewards) == entry["rewarded_steps"]
        assert episode.ended and entry["ended"]
        assert np.array_equal(episode.frames, again.frames) and np.array_equal(episode.actions, again.actions)


def test_cut_episodes_did_not_end(tmp_path):
    meta = record(tmp_path, frames=100, episode_steps=3)
    assert all(entry["steps"] == 3 and not entry["ended"] for entry in meta["episodes"])


def test_only_the_named_policies_play(tmp_path):
    meta = record(tmp_path, policies=["switching"])
    assert {entry["policy"] for entry in meta["episodes"]} == {"switching"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"frames": 401}, "frames_asked is 400 there, 401 here"),
        ({"policies": ["random"]}, "policies is"),
        ({"episode_steps": 2}, "episode_steps is 0 there, 2 here"),
    ],
)
def test_a_folder_of_another_recording_is_refused_and_left_alone(tmp_path, settings, message):
    record(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        record(tmp_path, **settings)
    assert contents(tmp_path) == before


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="holds other files"):
        record(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"years"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames=0 is too small"),
        ({"seed": -1}, "seed=-1 is too small"),
        ({"policies": ["randm"]}, "did you mean 'random'"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        record(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_an_episode_file_is_there_whole_or_not_at_all(tmp_path):
    episode = record_episode(CountingGame(), "random", (0, 0, 0), 12)
    sha256 = write_episode(tmp_path / "train" / "000000.npz", episode)
    assert [path.name for path in tmp_path.rglob("*.npz*")] == ["000000.npz"]
    path = tmp_path / "train" / "000000.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="000000.npz is damaged"):
        read_episode(path, sha256)


def test_the_command_names_what_is_wrong_in_one_line(tmp_path):
    for arguments, message in (
        ((), "out=FOLDER"),
        (("game=boxin", f"out={tmp_path}/new"), "did you mean 'boxing'"),
    ):
        answer = run_cli(*arguments)
        assert answer.returncode == 1
        assert answer.stderr.count("\n") == 1 and message in answer.stderr


def test_the_command_records_a_users_own_adapter_from_the_working_folder(tmp_path):
    source = Path(counting_game.__file__).read_text()
    (tmp_path / "my_game.py").write_text(source.replace('name = "counting"', 'name = "mine"'))
    arguments = ("game=my_game:CountingGame", "frames=120", "workers=2", "out=data")
    answer = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    record(tmp_path / "here", frames=120)
    mine, here = contents(tmp_path / "data"), contents(tmp_path / "here")
    assert json.loads(mine.pop("meta.json"))["game"] == "mine"
    assert here.pop("meta.json") and mine == here


@pytest.mark.atari
def test_a_killed_command_started_again_gives_the_same_bytes(tmp_path):
    settings = ("game=boxing", "frames=400", "episode_steps=40", "workers=2")
    command = [sys.executable, "-m", "worldsim_training.collect", *settings, f"out={tmp_path}/killed"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("killed/train/000002.npz")) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not json.loads((tmp_path / "killed" / "meta.json").read_text())["complete"]
    for name in ("killed", "calm"):
        assert run_cli(*settings, f"out={tmp_path}/{name}").returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "calm")


def test_a_worlds_settings_say_who_plays(tmp_path):
    data = DataConfig(folder=str(tmp_path), frames=100, policies=("switching",))
    ensure(data, CountingGame)
    assert {each["policy"] for each in json.loads((tmp_path / "meta.json").read_text())["episodes"]} == {"switching"}
    ensure(data, CountingGame)  # is there already
    with pytest.raises(ValueError, match="holds another recording: policies is"):
        ensure(replace(data, policies=("random",)), CountingGame)


def test_a_world_has_lost_episodes_recorded_again_by_who_played_them(tmp_path, capsys):
    meta = record(tmp_path, policies=["switching"])
    whole = contents(tmp_path)
    first, second, third = (tmp_path / entry["file"] for entry in meta["episodes"][:3])
    first.write_bytes(whole["train/000000.npz"][:-1])
    second.unlink()
    data = DataConfig(folder=str(tmp_path), frames=400)
    ensure(data, CountingGame)
    assert contents(tmp_path) == whole
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert warning == f"warning: recording again what is missing or damaged: {first} and 1 more"
    third.write_bytes(whole["train/000002.npz"].replace(b"frames", b"flames"))
    ensure(data, CountingGame)
    assert contents(tmp_path) != whole  # which the end of that file does not show
    ensure(data, CountingGame, is_whole)
    assert contents(tmp_path) == whole
