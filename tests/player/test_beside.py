"""What stands beside the imagined game: the real one, another future; where rounds begin, and what is kept of them."""

import argparse
import hashlib
import json
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
from player_kit import Hand, press, release, same
from tiny import NAMES, tiny_actions
from toy_game import ToyGame, advance, draw, read

pygame = pytest.importorskip("pygame")

from worldsim import play  # noqa: E402
from worldsim.player.episodes import EpisodeWriter  # noqa: E402
from worldsim.player.panes import GAP, difference  # noqa: E402
from worldsim.player.starts import WorldStarts, chosen  # noqa: E402
from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig  # noqa: E402
from worldsim_envs.source import SourceEnv  # noqa: E402
from worldsim_training.collect import CollectConfig, collect  # noqa: E402
from worldsim_training.dataset import Recording  # noqa: E402

UP = NAMES.index("UP")


class TinyGame(ToyGame):
    """The toy game with the tiny world's actions, which it reads as its own four ways."""

    name, env_id = "tiny", "ALE/Boxing-v5"
    actions = tiny_actions()

    def step(self, action):
        self.state = advance(self.state, self.actions.encode(int(action))[:4])
        self.steps += 1
        return draw(self.state), 0.0, self.steps >= self.max_episode_steps


def _source(world):
    sys.modules["tiny_game_for_tests"] = module = types.ModuleType("tiny_game_for_tests")
    module.TinyGame = TinyGame
    return SourceEnv(world, game="tiny_game_for_tests:TinyGame")


@pytest.fixture
def beside(env, window, make_game, world):
    return Hand(make_game(env, open_real=lambda: _source(world)), window)


def split(frame, count):
    width = 64 + GAP
    return [frame[:, i * width : i * width + 64] for i in range(count)]


def test_t_shows_the_real_game_under_the_same_keys_with_the_difference(beside, world):
    press("up")
    shown = [beside.turn("t"), *beside.turns(5)]
    assert beside.shown[-1][1].captions[1].startswith("real")
    imagined, truth, apart = zip(*(split(frame, 3) for frame in shown), strict=True)
    states = [read(frame) for frame in truth]
    assert all(advance(one, (1, 0, 0, 0)) == other for one, other in zip(states, states[1:], strict=False))
    alone = gym.make("worldsim/World-v0", world=world)
    alone.reset(seed=8, options=dict(beside.game.session.timeline.past))
    assert same(imagined, [alone.step(UP)[0] for _ in range(6)])
    assert same(apart, [difference(*pair).frame for pair in zip(imagined, truth, strict=True)])
    beside.turn("t")
    assert beside.shown[-1][1].captions == () and beside.shown[-1][0].shape == (48, 64, 3)


def test_rewinding_takes_both_games_back(beside):
    beside.turn("t")
    press("right")
    lived = beside.turns(12)
    press("backspace")
    back = beside.turns(5)
    assert same([split(frame, 3)[1] for frame in back], [split(frame, 3)[1] for frame in lived[-2:-7:-1]])
    release("backspace", "right")
    press("right")
    assert np.array_equal(beside.turn(), lived[-5])


def test_without_the_real_game_t_is_one_line(window, env, make_game):
    def missing():
        raise ModuleNotFoundError("the real game needs its package")

    hand = Hand(make_game(env, open_real=missing), window)
    hand.turns(2)
    hand.turn("t")
    assert hand.note == "the real game needs its package" and hand.game.status().step == 3


def test_a_fork_lives_one_past_and_two_futures(beside, world):
    press("up")
    beside.turns(3)
    shown = [beside.turn("k"), *beside.turns(3)]
    mine, other = zip(*(split(frame, 2) for frame in shown), strict=True)
    alone = gym.make("worldsim/World-v0", world=world)
    for frames, action in ((mine, UP), (other, 0)):
        alone.reset(seed=7)
        observations = [alone.step(each)[0] for each in [UP] * 3 + [action] * 4]
        assert same(frames, observations[3:])
    left, right = split(beside.turn("x"), 2)
    assert np.array_equal(right, alone.step(UP)[0]) and not np.array_equal(left, right)
    beside.turn("k")
    assert beside.game.session.timeline.actions == [UP] * 3 + [0] * 4 + [UP] * 2


def test_a_forks_captions_tell_who_plays(beside):
    beside.turn("k")
    for hands in ("random", "your keys"):
        beside.turn("m")
        told = [caption.split("   ")[1] for caption in beside.shown[-1][1].captions]
        assert told == [hands, "at rest"]


def test_b_goes_through_the_worlds_own_starts(env, window, make_game):
    starts = env.model.starts
    hand = Hand(make_game(env, starts=WorldStarts(starts, 1)), window)
    assert np.array_equal(hand.game.picture, starts.frames[1, -1])
    hand.turn("tab")
    for index in (2, 0, 1):
        hand.turn("b", "tab")
        assert np.array_equal(hand.game.picture, starts.frames[index, -1]) and f"start {index}" in hand.note


def test_a_recorded_moment_is_a_start_and_the_real_game_gets_there(env, window, make_game, world, tmp_path):
    collect(CollectConfig(out=str(tmp_path / "data"), frames=600, episode_steps=90, workers=1), TinyGame)
    asked = f"{tmp_path / 'data'}:test/0:70"
    recorded = Recording.load(tmp_path / "data", "test", progress=False)
    hand = Hand(make_game(env, starts=chosen(asked, env), open_real=lambda: _source(world)), window)
    assert np.array_equal(hand.game.picture, recorded.frames[70])
    action = int(np.flatnonzero((TinyGame.actions.table == recorded.actions[71]).all(axis=1))[0])
    keys = [key for i, key in enumerate(("up", "down", "left", "right", "space")) if recorded.actions[71][i]]
    press(*keys)
    _, truth, _ = split(hand.turn("t"), 3)
    assert hand.game.session.timeline.actions == [action] and np.array_equal(truth, recorded.frames[71])
    for wrong, words in ((":test/9", "no episode 'test/9'"), (":test/0:1", "use 3..90"), (":test/0:x", "frame 'x'")):
        with pytest.raises(ValueError, match=words):
            chosen(f"{tmp_path / 'data'}{wrong}", env)
    with pytest.raises(FileNotFoundError, match="is no dataset"):
        chosen(str(tmp_path), env)
    path = tmp_path / "data" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_id": "Other-v1"}))
    with pytest.raises(
        ValueError, match=f"data is a recording of Other-v1; this world imagines {env.model.info.env_id}"
    ):
        chosen(str(tmp_path / "data"), env)


def test_played_rounds_are_a_dataset_that_training_reads(env, window, make_game, tmp_path):
    folder = tmp_path / "mine"
    hand = Hand(make_game(env, episodes=EpisodeWriter(folder, env.facts(), "imagined")), window)
    press("up")
    for _ in range(3):
        hand.turns(6)
        hand.turn("n", "tab")
        hand.turn("tab")
    hand.game.close()
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["source"] == "imagined" and [each["split"] for each in meta["episodes"][:3]] == [
        "train",
        "validation",
        "test",
    ]
    recording = Recording.load(folder, "train", progress=False)
    assert recording.policies[0] == "human" and recording.frames.shape[1:] == (48, 64, 3)
    assert (recording.actions[recording.known][:5] == TinyGame.actions.table[UP]).all()
    first = folder / meta["episodes"][0]["file"]
    assert hashlib.sha256(first.read_bytes()).hexdigest() == meta["episodes"][0]["sha256"]
    with pytest.raises(ValueError, match="source 'imagined', not 'real'"):
        EpisodeWriter(folder, env.facts(), "real")


def test_the_real_game_is_played_in_the_worlds_place(window, make_game, world):
    source = _source(world)
    hand = Hand(make_game(source, real=True), window)
    press("up")
    states = [read(frame) for frame in [hand.game.picture, *hand.turns(4)]]
    assert all(advance(one, (1, 0, 0, 0)) == other for one, other in zip(states, states[1:], strict=False))
    for key, words in (
        ("f5", "no quick saves"),
        ("f9", "no quick saves"),
        ("p", "not painted"),
        ("k", "one future"),
        ("t", "already"),
        ("4", "no network"),
    ):
        hand.turn(key)
        assert words in hand.note


def test_the_drift_signal_comes_from_the_network(window, make_game, world):
    env = gym.make("worldsim/World-v0", world=world, ood_every=1).unwrapped
    hand = Hand(make_game(env, drift=True), window)
    assert hand.game.status().doubt is None
    frame = hand.turn()
    twin = gym.make("worldsim/World-v0", world=world, ood_every=1).unwrapped
    twin.reset(seed=7)
    painted, *_, info = twin.step(0)
    assert np.array_equal(painted, frame) and hand.game.status().doubt == info["ood"]


def test_no_drift_signal_is_asked_for_where_none_is_wanted(hand):
    hand.turns(3)
    assert hand.game.status().doubt is None


def test_m_hands_over_to_the_agent_after_the_random_player(env, window, make_game):
    seen = []
    hand = Hand(make_game(env, load_agent=lambda: lambda frame: seen.append(frame.copy()) or UP), window)
    before = hand.turn()
    hand.turn("m", "m")
    assert hand.game.status().hands == "agent" and np.array_equal(seen[0], before)
    hand.turn("m")
    assert hand.game.status().hands == "you" and hand.game.session.timeline.actions == [0, UP, 0]


class Counting:
    """An agent that counts the frames it was shown since it forgot."""

    def __init__(self):
        self.seen = 0

    def __call__(self, frame):
        self.seen += 1
        return UP

    def reset(self):
        self.seen = 0


def test_the_agent_forgets_whenever_what_comes_does_not_follow_on_what_it_saw(env, window, make_game):
    agents = []
    hand = Hand(make_game(env, load_agent=lambda: agents.append(Counting()) or agents[-1]), window)

    def seen():
        hand.turns(3)
        return agents[0].seen

    hand.turn("m", "m")
    hand.turn("f5")
    assert seen() == 5  # one with each turn
    hand.turn("n")
    assert seen() == 4
    hand.turn("f9")
    assert seen() == 4
    press("backspace")
    hand.turns(2)
    release("backspace")
    assert seen() == 3
    hand.turn("m", "m", "m")
    assert seen() == 4


def test_an_agent_that_plays_both_futures_sees_the_last_frames_of_each_alone(world, tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)
    PixelPolicy(PolicyConfig(48, 64, len(NAMES))).save_pretrained("agent")
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    game, window = play.open_game(parser.parse_args([world, "--seed", "7", "--agent", "agent"]))
    hand, asked = Hand(game, window), []
    hand.turns(3)
    hand.turn("k", "m", "m", "x", "m", "m")
    hand.turns(4)
    act = PixelPolicy.forward
    monkeypatch.setattr(PixelPolicy, "forward", lambda self, seen: asked.append(seen) or act(self, seen))
    futures = [game.session.timeline, game._fork.other.timeline]
    last = [np.stack([each.frame(len(each) - back) for back in (3, 2, 1, 0)]) for each in futures]
    hand.turn()
    assert not np.array_equal(*last)
    assert same([seen[0].unflatten(0, (4, 3)).permute(0, 2, 3, 1).numpy() for seen in asked], last)
    window.close()


@pytest.mark.parametrize(("limit", "ended"), [(4, False), (None, True)])
def test_a_round_that_its_time_limit_cut_is_no_end_of_the_game(window, make_game, world, tmp_path, limit, ended):
    source = _source(world)
    source.limit = limit
    hand = Hand(make_game(source, real=True, episodes=EpisodeWriter(tmp_path, source.facts(), "real")), window)
    while hand.game.mode == "play":
        hand.turn()
    hand.game.close()
    (file,) = tmp_path.rglob("*.npz")
    assert bool(np.load(file)["ended"]) is ended
    assert json.loads((tmp_path / "meta.json").read_text())["episodes"][0]["ended"] is ended
