"""Conditions of a world: what holds for a scene, set at reset and changed while playing."""

import numpy as np
import pytest
from tiny import tiny_encounter, tiny_world

from worldsim.action import ActionSpec, Channel
from worldsim_envs.env import WorldEnv
from worldsim_envs.games.boxing import Boxing
from worldsim_envs.save_state import SaveState
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world():
    return tiny_encounter()


@pytest.fixture
def spec():
    names = ("wave", "npc_shy", "npc_bold", "sky_day", "sky_night")
    return ActionSpec([Channel(name) for name in names], conditions={"npc": ("shy", "bold"), "sky": ("day", "night")})


def test_what_no_vector_names_goes_on_as_it_was(spec):
    held = spec.condition_vector({"npc": "bold"})
    assert spec.conditions_of(held) == {"npc": "bold", "sky": "day"}
    held = spec.hold(spec.vector(wave=1, sky_night=0.5), held)
    assert held.tolist() == [1, 0, 1, 0, 1]
    assert spec.hold(spec.vector(npc_shy=1, npc_bold=1), held).tolist() == [0, 1, 0, 0, 1]


def test_many_vectors_hold_each_their_own(spec):
    held = np.stack([spec.condition_vector({"npc": name}) for name in ("shy", "bold")])
    named = np.stack([spec.vector(), spec.vector(sky_night=1)])
    assert [spec.conditions_of(row) for row in spec.hold(named, held)] == [
        {"npc": "shy", "sky": "day"},
        {"npc": "bold", "sky": "night"},
    ]


def test_conditions_survive_json_and_are_not_named_where_there_are_none(spec):
    assert ActionSpec.from_json(spec.to_json()) == spec
    assert set(Boxing.actions.to_json()) == {"channels", "table", "names", "keys"}
    with pytest.raises(ValueError, match=r"condition 'npc' has no channel \['npc_shy'\]; give each of its values one"):
        ActionSpec([Channel("npc_bold")], conditions={"npc": ("shy", "bold")})


def test_a_condition_set_at_reset_is_one_that_every_action_names(world):
    env = WorldEnv(world)
    frames = []
    for options, named in (({"conditions": {"npc": "timid"}}, {}), ({}, {"npc_timid": 1})):
        env.reset(seed=0, options={"start": 0} | options)
        frames.append([env.step(env.actions.vector(wave=1, **named))[0] for _ in range(3)])
    assert np.array_equal(*frames)
    env.reset(seed=0, options={"start": 0, "conditions": {"npc": "hostile"}})
    assert not np.array_equal(frames[0][0], env.step(env.actions.vector(wave=1))[0])


def test_without_a_wish_what_held_at_the_end_of_the_past_goes_on(world):
    env = WorldEnv(world)
    for start in (0, 1):
        env.reset(seed=0, options={"start": start})
        assert env.actions.vector(**{f"npc_{env.conditions['npc']}": 1})[8:13].tolist() == list(
            world.starts.actions[start, -1, 8:13]
        )
    env.reset(options={"frames": world.starts.frames[0, :1], "actions": world.starts.actions[0, :0]})
    assert env.conditions == {"npc": "friendly"}


def test_a_condition_changes_while_playing_by_name_or_by_action(world):
    env = WorldEnv(world)
    env.reset(seed=0, options={"conditions": {"npc": "timid"}})
    env.conditions = {"npc": "proud"}
    assert env.conditions == {"npc": "proud"}
    env.step(env.actions.vector(npc_hostile=1))
    env.step(env.actions.vector())
    assert env.conditions == {"npc": "hostile"}


def test_a_save_state_keeps_its_condition(world, tmp_path):
    world.save_pretrained(tmp_path / "world")
    env = WorldEnv(str(tmp_path / "world"))
    env.reset(seed=0, options={"conditions": {"npc": "timid"}})
    env.save_state().save(tmp_path / "state.safetensors")
    env.conditions = {"npc": "proud"}
    env.load_state(SaveState.load(tmp_path / "state.safetensors"))
    assert env.conditions == {"npc": "timid"}
    assert env.fork(1)[0].conditions == {"npc": "timid"}


def test_each_world_of_a_batch_holds_its_own(world):
    seeds, named = (4, 5), ("npc_timid", "npc_hostile")
    together = WorldVectorEnv(2, world, exact=True)
    together.reset(seed=list(seeds))
    first = np.stack([together.actions.vector(**{name: 1}) for name in named])
    rest = np.stack([together.actions.vector()] * 2)
    batch = [together.step(actions)[0] for actions in (first, rest, rest)]
    for place, (seed, name) in enumerate(zip(seeds, named, strict=True)):
        env = WorldEnv(world)
        env.reset(seed=seed)
        for frames in batch:
            assert np.array_equal(frames[place], env.step(env.actions.vector(**{name: 1}))[0])
        assert together.save_state(place).conditions == env.conditions


def test_wrong_conditions_are_told_in_one_line_and_the_round_goes_on(world):
    env = WorldEnv(world)
    env.reset(seed=0)
    before = env.conditions
    for conditions, words in (
        ({"npc": "tmid"}, "unknown value of condition 'npc': 'tmid'; did you mean 'timid'"),
        ({"ncp": "timid"}, "unknown condition 'ncp'; did you mean 'npc'"),
    ):
        with pytest.raises(ValueError, match=words):
            env.reset(options={"conditions": conditions})
        with pytest.raises(ValueError, match=words):
            env.conditions = conditions
    assert env.conditions == before
    with pytest.raises(ValueError, match="unknown condition 'npc'; this world has none"):
        WorldEnv(tiny_world()).reset(options={"conditions": {"npc": "timid"}})
