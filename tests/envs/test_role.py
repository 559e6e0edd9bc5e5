"""Agents that play a part of a world's action, while what is fixed holds without them."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from tiny import tiny_encounter, tiny_world

import worldsim  # noqa: F401 - registers the ids
from worldsim.action import ActionSpec, Channel
from worldsim.world_info import Starts
from worldsim.world_model import WorldModel
from worldsim_envs.agents import load_agent
from worldsim_envs.encounter.rules import BUTTONS, TEMPERAMENTS
from worldsim_envs.env import WorldEnv
from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig
from worldsim_envs.role import Role
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWN = {"npc": None}
PLAYER = gym.spaces.Box(0, 1, (len(BUTTONS),), np.float32)


@pytest.fixture(scope="module")
def world():
    return tiny_encounter()


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encounter")
    world.save_pretrained(folder)
    return str(folder)


def wave(env):
    return env.actions.vector(wave=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["World", "Encounter"])
@pytest.mark.parametrize("fixed", [{"npc": "timid"}, DRAWN])
def test_an_agent_that_is_the_player_alone_passes_gymnasiums_checker(name, fixed, folder, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(f"worldsim/{name}-v0", world=folder, fixed=fixed, render_mode="rgb_array")
    assert env.action_space == PLAYER
    assert [channel.name for channel in env.unwrapped.actions.channels] == list(BUTTONS)
    check_env(env.unwrapped)


@pytest.mark.parametrize("name", ["World", "Encounter"])
def test_a_batch_is_made_by_its_id_for_the_player_alone(name, folder):
    worlds = gym.make_vec(f"worldsim/{name}-v0", num_envs=3, world=folder, fixed={"npc": "proud"})
    assert worlds.single_action_space == PLAYER and worlds.action_space.shape == (3, len(BUTTONS))
    worlds.reset(seed=0)
    worlds.step(worlds.action_space.sample())
    assert worlds.unwrapped.conditions == ({"npc": "proud"},) * 3


def test_stable_baselines3_sees_the_players_buttons(folder):
    sb3 = pytest.importorskip("worldsim_envs.sb3")
    how = {"world": folder, "autoreset_mode": "SameStep", "fixed": DRAWN}
    worlds = sb3.WorldVecEnv(gym.make_vec("worldsim/World-v0", num_envs=2, **how))
    worlds.reset()
    assert worlds.action_space == PLAYER and worlds.step(np.zeros((2, len(BUTTONS))))[0].shape == (2, 64, 64, 3)


def test_the_players_moves_are_the_whole_action_that_names_what_is_fixed(world):
    alone, whole = WorldEnv(world, fixed={"npc": "timid"}), WorldEnv(world)
    for env in (alone, whole):
        env.reset(seed=0)
    for _ in range(3):
        right = whole.step(whole.actions.vector(wave=1, npc_timid=1))
        seen = alone.step(wave(alone))
        assert np.array_equal(seen[0], right[0]) and seen[1:] == right[1:]
    assert alone.conditions == {"npc": "timid"}


def test_what_is_not_given_is_drawn_at_every_reset_from_the_seed_and_never_lifeless(world):
    env, drawn = WorldEnv(world, fixed=DRAWN), []
    for _ in range(2):
        for episode in range(40):
            env.reset(seed=None if episode else 3)
            drawn.append(env.conditions["npc"])
    assert drawn[:40] == drawn[40:] and set(drawn) == set(TEMPERAMENTS)


def test_each_world_of_a_batch_draws_as_it_does_alone_and_anew_in_its_next_episode(world):
    worlds = WorldVectorEnv(4, world, exact=True, fixed=DRAWN, max_episode_steps=2)
    alone = [WorldEnv(world, fixed=DRAWN, max_episode_steps=2) for _ in range(4)]
    worlds.reset(seed=0)
    held = [{}] * 4
    for place, env in enumerate(alone):
        env.reset(seed=place)
    for step in range(9):
        assert worlds.conditions == tuple(env.conditions for env in alone)
        frames = worlds.step(np.stack([wave(env) for env in alone]))[0]
        for place, env in enumerate(alone):
            frame = env.reset()[0] if step % 3 == 2 else env.step(wave(env))[0]
            assert np.array_equal(frames[place], frame)
            held[place] = {**held[place], env.conditions["npc"]: True}
    assert all(len(values) > 1 for values in held)


def test_a_reset_or_the_game_master_may_say_otherwise_for_one_episode(world):
    env, worlds = WorldEnv(world, fixed={"npc": "timid"}), WorldVectorEnv(2, world, fixed={"npc": "timid"})
    for each in (env, worlds):
        each.reset(seed=0, options={"conditions": {"npc": "hostile"}})
    assert env.conditions == {"npc": "hostile"} and worlds.conditions == ({"npc": "hostile"},) * 2
    env.conditions = {"npc": "proud"}
    env.step(wave(env))
    assert env.conditions == {"npc": "proud"}
    env.reset()
    assert env.conditions == {"npc": "timid"}


def test_forks_and_save_states_go_on_in_the_same_role(world):
    env = WorldEnv(world, fixed=DRAWN)
    env.reset(seed=5)
    env.step(wave(env))
    futures = [*env.fork(1), copy.deepcopy(env), WorldEnv(world, fixed={"npc": "proud"})]
    futures[-1].load_state(env.save_state())
    right = env.step(wave(env))[0]
    for each in futures:
        assert each.action_space == PLAYER and each.conditions == env.conditions
        assert np.array_equal(each.step(wave(each))[0], right)
    assert [each.rules.role.fixed for each in futures] == [DRAWN, DRAWN, {"npc": "proud"}]


def test_a_past_of_ones_own_has_the_games_whole_actions(world):
    env = WorldEnv(world, fixed={"npc": "timid"})
    past = {"frames": world.starts.frames[0], "actions": world.starts.actions[0]}
    env.reset(seed=0, options=past)
    assert env.conditions == {"npc": "timid"}


@pytest.mark.parametrize("channel_actions", [False, True])
def test_of_native_actions_that_are_the_same_without_what_is_fixed_one_is_left(channel_actions):
    names = ("rest", "wave", "be shy", "be bold", "bold, wave")
    table = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0]]
    channels = [Channel(name) for name in ("wave", "npc_shy", "npc_bold", "duck")]
    spec = ActionSpec(channels, table, names=names, keys={"wave": ("w",)}, conditions={"npc": ("shy", "bold")})
    role = Role(spec, {"npc": "bold"}, channel_actions=channel_actions)
    if channel_actions:
        assert role.space == gym.spaces.Box(0, 1, (2,), np.float32)
        assert role.encode(np.array([[0, 1], [1, 0]])).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    else:
        assert role.space == gym.spaces.Discrete(2) and role.actions.names == ("rest", "wave")
        assert role.encode(np.arange(2)).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]


def test_a_discrete_world_is_played_without_what_is_fixed():
    model = tiny_world()
    channels = [Channel(name) for name in ("wave", "npc_shy", "npc_bold", "sky_day", "sky_night")]
    table = np.concatenate([np.zeros((1, 5)), np.eye(5)])
    spec = ActionSpec(channels, table, conditions={"npc": ("shy", "bold"), "sky": ("day", "night")})
    starts = Starts(model.starts.frames, model.starts.actions % 6)
    env = WorldEnv(WorldModel(replace(model.info), spec, model.denoiser, model.heads, starts), fixed={"npc": "bold"})
    assert env.action_space == gym.spaces.Discrete(4)  # rest, wave, day, night
    env.reset(seed=0)
    env.step(3)
    assert env.conditions == {"npc": "bold", "sky": "night"}


def test_what_cannot_be_fixed_is_told_in_one_line(world):
    for fixed, words in (
        ({"ncp": "timid"}, "unknown condition 'ncp'; did you mean 'npc'"),
        ({"npc": "tmid"}, "unknown value of condition 'npc': 'tmid'; did you mean 'timid'"),
        ("timid", "fixed='timid'; give what holds by condition, as {'npc': 'timid'}, None to draw it"),
    ):
        for make in (WorldEnv, lambda world, **how: WorldVectorEnv(2, world, **how)):
            with pytest.raises(ValueError, match=words) as caught:
                make(world, fixed=fixed)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown condition 'npc'; this world has none"):
        WorldEnv(tiny_world(), fixed=DRAWN)
    only = ActionSpec([Channel("npc_shy"), Channel("npc_bold")], conditions={"npc": ("shy", "bold")})
    with pytest.raises(ValueError, match="nothing is left to do without npc; this world has npc_shy, npc_bold"):
        Role(only, DRAWN)


def test_a_policy_of_the_player_alone_plays_the_real_game_through_its_role():
    game = gym.make("worldsim/EncounterGame-v0", temperament="proud")
    role = Role(game.unwrapped.actions, DRAWN)
    game = gym.wrappers.TransformAction(game, role.encode, role.space)
    game.reset(seed=0)
    told = [game.step(role.actions.vector(right=1))[-1] for _ in range(5)]
    assert game.action_space == PLAYER and {info["temperament"] for info in told} == {("proud",)}
    assert not game.unwrapped.scene.figures[1].driven


def test_a_wrong_action_of_the_player_is_told_and_the_episode_goes_on(world):
    env = WorldEnv(world, fixed={"npc": "timid"})
    env.reset(seed=0)
    for action, words in ((np.zeros(21), r"takes \(..., 8\)"), (np.zeros((1, 8)), "give one action of Box")):
        with pytest.raises(ValueError, match=words):
            env.step(action)
    env.step(wave(env))


def test_a_policy_that_learnt_as_the_player_alone_plays_the_whole_world(folder, tmp_path):
    env, alone = WorldEnv(folder), WorldEnv(folder, fixed=DRAWN)
    height, width = env.observation_space.shape[:2]
    policy = PixelPolicy(PolicyConfig(height, width, 1, choices=(tuple(wave(alone).tolist()),)))
    policy.save_pretrained(tmp_path)
    agent = load_agent(str(tmp_path), env, np.random.default_rng(0))
    frame, _ = env.reset(seed=1, options={"conditions": {"npc": "timid"}})
    assert np.array_equal(action := agent(frame), wave(env))
    env.step(action)
    assert env.conditions == {"npc": "timid"}  # which holds on
