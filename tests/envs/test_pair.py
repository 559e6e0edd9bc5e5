"""Two players over one game or one tiny random world."""

import gymnasium as gym
import numpy as np
import pytest
from tiny import tiny_encounter, tiny_world

pytest.importorskip("pettingzoo")
from pettingzoo.test import parallel_api_test, parallel_seed_test

from worldsim_envs.encounter.env import EncounterEnv
from worldsim_envs.env import WorldEnv
from worldsim_envs.pair import ACTIONS, EncounterParallelEnv

pytestmark = pytest.mark.usefixtures("one_thread")
STAY, BOW, STRIKE = (ACTIONS.index(name) for name in ("stay", "bow", "strike"))


def test_pettingzoos_checker_finds_no_fault(world):
    parallel_api_test(EncounterParallelEnv(world, max_episode_steps=7), num_cycles=20)


def test_pettingzoos_seed_test_finds_the_same_episodes(world):
    parallel_seed_test(lambda: EncounterParallelEnv(world, max_episode_steps=5), num_cycles=8)


def test_three_bodies_play_the_game_of_two_npcs():
    env = EncounterParallelEnv(npcs=2, max_episode_steps=5)
    assert env.possible_agents == ["player", "npc", "npc2"]
    parallel_api_test(env, num_cycles=10)


def test_each_agent_moves_its_own_body():
    env = EncounterParallelEnv()
    env.reset(seed=0)
    *_, infos = env.step({"player": STAY, "npc": BOW})
    player, npc = env._env.scene.figures
    assert (player.act, npc.act, npc.driven) == ("stand", "bow", True) and infos["npc"]["reactions"] == ()


def test_it_is_the_same_game_as_the_environment_under_the_same_buttons(world):
    pair = EncounterParallelEnv(world)
    env = EncounterEnv() if world == "game" else WorldEnv(world, channel_actions=True)
    observations, _ = pair.reset(seed=4)
    assert np.array_equal(observations["npc"], env.reset(seed=4)[0])
    for _ in range(3):
        shown, rewards, *_ = pair.step({"player": STRIKE, "npc": BOW})
        frame, reward, *_ = env.step(env.actions.vector(strike=1, npc_driven=1, npc_bow=1))
        assert np.array_equal(shown["player"], frame) and rewards == {"player": reward, "npc": -reward}


def test_a_struck_player_loses_what_the_other_gains():
    env = EncounterParallelEnv(max_episode_steps=60)
    env.reset(seed=0)
    total = {"player": 0.0, "npc": 0.0}
    while env.agents:
        player, npc = env._env.scene.figures
        way = ACTIONS.index("right" if player.x > npc.x else "left")
        near = abs(player.x - npc.x) <= 14 and (player.x - npc.x) * npc.facing > 0
        _, rewards, *_ = env.step({"player": STAY, "npc": STRIKE if near else way})
        total = {agent: total[agent] + rewards[agent] for agent in total}
    assert total["npc"] == -total["player"] >= 1


def test_when_the_time_is_over_all_are_truncated_and_a_reset_is_called_for():
    env = EncounterParallelEnv(max_episode_steps=1)
    with pytest.raises(gym.error.ResetNeeded):
        env.step({"player": STAY, "npc": STAY})
    env.reset(seed=0)
    _, _, terminations, truncations, _ = env.step({"player": STAY, "npc": STAY})
    assert truncations == {"player": True, "npc": True} and not any(terminations.values()) and not env.agents
    with pytest.raises(gym.error.ResetNeeded):
        env.step({})


def test_a_round_that_the_world_cuts_is_over_for_all(monkeypatch):
    env = EncounterParallelEnv()
    env.reset(seed=0)
    step = env._env.step
    monkeypatch.setattr(env._env, "step", lambda action: (*step(action)[:3], True, {"fault": "no number"}))
    _, _, terminations, truncations, infos = env.step({"player": STAY, "npc": STAY})
    assert all(truncations.values()) and not any(terminations.values()) and not env.agents
    assert infos["player"] == {"fault": "no number"}


def test_wrong_arguments_and_actions_are_told_in_one_line():
    env = EncounterParallelEnv()
    env.reset(seed=0)
    before = env._env.scene.copy()
    with pytest.raises(ValueError, match="actions are of player; give one each of player, npc"):
        env.step({"player": STAY})
    with pytest.raises(ValueError, match="actions are of nobody; give one each of player, npc"):
        env.step([STAY, STAY])
    with pytest.raises(ValueError, match="steps=2; the source game has no network"):
        EncounterParallelEnv(steps=2)
    with pytest.raises(ValueError, match="action 9 of npc is none; give 0 to 8: stay, left"):
        env.step({"player": STAY, "npc": 9})
    assert env._env.scene == before
    with pytest.raises(ValueError, match="max_episode_steps=0"):
        EncounterParallelEnv(max_episode_steps=0)
    with pytest.raises(ValueError, match="this world has nobody to drive, only down, fire, left"):
        EncounterParallelEnv(tiny_world())
    with pytest.raises(ValueError, match="npcs=2; a world has its own number"):
        EncounterParallelEnv(tiny_encounter(), npcs=2)
