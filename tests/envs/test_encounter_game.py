"""Encounter as an environment and as a source game: determinism, save states, channels, recording."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import worldsim  # noqa: F401  registers the ids
from worldsim.player.controls import COMMANDS, REWIND
from worldsim_envs.encounter.env import EncounterEnv
from worldsim_envs.encounter.game import action_spec
from worldsim_envs.encounter.rules import GESTURES, REACTIONS, TEMPERAMENTS
from worldsim_envs.games import make_game, source_game
from worldsim_envs.games.check import check_game
from worldsim_envs.games.encounter import Encounter, EncounterPair
from worldsim_training.collect import CollectConfig, collect, record_episode
from worldsim_training.episodes import read_episode

IDS = ("worldsim/EncounterGame-v0", "worldsim/EncounterPairGame-v0")


def play(game, policy, seed, steps=150):
    """Frames, answers and actions of an episode."""
    choose = game.policies()[policy](np.random.default_rng(seed))
    frames, answers, actions = [game.reset(seed)], [], []
    for _ in range(steps):
        actions.append(choose(game))
        frames.append(game.step(actions[-1])[0])
        answers += game.scene.reactions
    return np.stack(frames), answers, actions


@pytest.fixture
def no_screen(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_finds_no_fault(env_id, no_screen):
    check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_sb3_finds_no_fault(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gym.make(env_id), warn=False)


def test_a_human_window_shows_the_scene_at_its_scale(no_screen):
    import pygame

    env = gym.make(IDS[0], render_mode="human", render_scale=3)
    env.reset(seed=0)
    env.step(env.unwrapped.actions.vector(wave=1))
    assert pygame.display.get_surface() is not None
    env.close()


@pytest.mark.parametrize("kind", [Encounter, EncounterPair])
def test_the_adapter_keeps_the_contract_of_games(kind):
    check_game(kind)
    assert source_game(kind.env_id) is kind


def test_environment_and_adapter_play_the_same_game():
    env = gym.make(IDS[0]).unwrapped
    with make_game("encounter") as game:
        assert env.actions == game.actions and env.action_space == game.actions.space()
        game.reset(3)
        env.reset(seed=3)
        env.restore(game.save())
        for _ in range(40):
            action = env.action_space.sample()
            assert np.array_equal(env.step(action)[0], game.step(action)[0])


@pytest.mark.parametrize("name", ["encounter", "encounter_pair"])
def test_the_same_seed_and_actions_give_the_same_bytes(name):
    for policy in make_game(name).policies():
        (one, answers, _), (other, *_) = (play(make_game(name), policy, 5) for _ in range(2))
        assert np.array_equal(one, other) and answers
        assert not np.array_equal(one, play(make_game(name), policy, 6)[0])


def test_a_saved_state_goes_on_alike_however_often_it_is_restored():
    game = make_game("encounter")
    *_, actions = play(game, "visitor", 1)
    state = game.save()
    shown = []
    for _ in range(2):
        frames = [game.restore(state)]
        frames += [game.step(action)[0] for action in actions]
        shown.append(np.stack(frames))
    assert np.array_equal(*shown)


def test_luck_decides_the_delay_and_nothing_that_is_to_be_seen():
    game = make_game("encounter")
    frame = game.reset(0)
    state = game.save()
    delays = set()
    wave, rest = game.actions.vector(npc_friendly=1, wave=1), game.actions.vector(npc_friendly=1)
    for seed in range(20):
        game.restore(state)
        game.reroll(np.random.default_rng(seed))
        assert np.array_equal(game.restore(game.save()), frame)
        for action in (wave, *[rest] * 6):
            game.step(action)
            delays |= {told.delay for told in game.scene.reactions}
    assert delays == {2, 3, 4}
    with pytest.raises(ValueError, match="luck -1"):
        game.set_luck(-1)


def test_the_temperament_channel_holds_until_another_is_held():
    env = EncounterEnv(temperament="timid")
    env.reset(seed=0)
    spec = env.actions
    assert env.step(spec.vector())[4]["temperament"] == ("timid",)
    assert env.step(spec.vector(npc_proud=1))[4]["temperament"] == ("proud",)
    assert env.step(spec.vector())[4]["temperament"] == ("proud",)


def test_a_driven_slot_does_as_its_own_buttons_say():
    env = EncounterEnv()
    env.reset(seed=0)
    env.step(env.actions.vector(npc_driven=1, npc_bow=1))
    assert env.scene.figures[1].act == "bow" and env.scene.figures[1].driven
    env.step(env.actions.vector(npc_friendly=1))
    assert not env.scene.figures[1].driven


def test_info_tells_who_answered_what_and_when():
    env = EncounterEnv(temperament="friendly")
    _, info = env.reset(seed=0)
    assert info == {"step": 0, "temperament": ("friendly",), "mood": ("calm",), "reactions": ()}
    told = []
    for step in range(6):
        _, reward, *_, info = env.step(env.actions.vector(wave=step == 0))
        assert reward == len(info["reactions"])
        told += info["reactions"]
    (answer,) = told
    assert answer["onset_frame"] - answer["gesture_frame"] == answer["delay"]
    expected = {"npc": 0, "reaction": "wave", "gesture": "wave", "temperament": "friendly", "mood": "calm"}
    assert expected.items() <= answer.items()


def test_of_two_npcs_the_one_that_is_faced_answers():
    env = EncounterEnv(npcs=2, temperament=["friendly", "friendly"])
    for way, button in ((-1, "left"), (1, "right")):
        env.reset(seed=0)
        env.step(env.actions.vector(**{button: 1}))
        told = []
        for step in range(6):
            told += env.step(env.actions.vector(wave=step == 0))[4]["reactions"]
        (answer,) = told
        assert np.sign(env.scene.figures[1 + answer["npc"]].x - env.scene.figures[0].x) == way


def test_looks_and_places_tell_nothing_of_the_temperament():
    env = EncounterEnv()
    counts = Counter()
    for seed in range(400):
        _, info = env.reset(seed=seed)
        counts[env.scene.figures[1].look, info["temperament"][0]] += 1
    assert len(counts) == 16 and max(counts.values()) < 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperament": "tmid"}, "unknown temperament 'tmid'; did you mean 'timid'"),
        ({"temperament": ["timid", "proud"]}, "2 for 1"),
        ({"mood": "hurt"}, "unknown reset option 'mood'"),
        ({1: 2, "mood": "hurt"}, "unknown reset option 1; use temperament"),
        (["temperament"], "reset options are of type list; give a dict of temperament"),
    ],
)
def test_wrong_options_are_told_in_one_line_and_leave_the_scene_as_it_was(options, message):
    env = EncounterEnv()
    env.reset(seed=0)
    before = env.scene.copy()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    assert env.scene == before


def test_wrong_arguments_and_actions_are_told_in_one_line():
    with pytest.raises(ValueError, match="npcs=3"):
        EncounterEnv(npcs=3)
    with pytest.raises(ValueError, match="render_scale=0"):
        EncounterEnv(render_scale=0)
    env = EncounterEnv()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.actions.vector())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"this world takes \(..., 21\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="did you mean 'wave'"):
        env.actions.vector(wafe=1)


def test_a_larger_picture_is_for_people_only():
    env = EncounterEnv(render_mode="rgb_array", render_scale=5)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (64, 64, 3) and env.render().shape == (320, 320, 3)


def test_its_keys_are_keys_of_the_window_that_command_nothing_else():
    window = pytest.importorskip("worldsim.window")
    keys = [name for names in action_spec().keys.values() for name in names]
    codes = {window.key_code(name) for name in keys}
    assert len(codes) == len(keys) and codes.isdisjoint(map(window.key_code, (*COMMANDS, REWIND)))
    assert all(EncounterEnv().action_space.contains(action) for action in EncounterEnv().get_keys_to_action().values())


def test_recorded_play_shows_every_reaction_and_most_of_the_table():
    game, cells, reactions = make_game("encounter"), set(), set()
    for seed in range(16):
        for policy in ("visitor", "random"):
            for told in play(game, policy, seed, 300)[1]:
                cells.add((told.temperament, told.mood, told.gesture))
                reactions.add(told.reaction)
    assert reactions == set(REACTIONS)
    assert len(cells) >= 54  # of 60


def test_recorded_temperaments_often_change_between_a_gesture_and_its_answer():
    game, changed, answers = make_game("encounter"), 0, 0
    for seed in range(12):
        for policy in ("visitor", "random"):
            _, told, actions = play(game, policy, seed, 300)
            for each in told:
                asked = game.actions.index(f"npc_{each.temperament}")
                changed += not actions[each.gesture_frame - 1][asked]
                assert actions[each.onset_frame - 1][asked]
            answers += len(told)
    assert 0.15 < changed / answers < 0.3


def test_recorded_actions_name_exactly_one_mind_of_each_npc():
    for name, slots in (("encounter", ("npc",)), ("encounter_pair", ("npc", "npc2"))):
        game = make_game(name)
        for policy in game.policies():
            actions = np.stack(play(game, policy, 0)[2])
            for slot in slots:
                minds = [game.actions.index(f"{slot}_{mind}") for mind in (*TEMPERAMENTS, "driven")]
                assert (actions[:, minds].sum(axis=1) == 1).all()
                driven = actions[:, game.actions.index(f"{slot}_driven")] == 1
                buttons = actions[:, [game.actions.index(f"{slot}_{gesture}") for gesture in GESTURES]]
                assert not buttons[~driven].any()


def test_it_is_recorded_and_its_answers_are_read_off_by_playing_it_again(tmp_path):
    meta = collect(
        CollectConfig(out=str(tmp_path), game="encounter", frames=600, episode_steps=60, workers=1), Encounter
    )
    assert {entry["policy"] for entry in meta["episodes"]} == {"visitor", "random", "duet"}
    entry = meta["episodes"][0]
    episode = read_episode(tmp_path / entry["file"], entry["sha256"])
    game = make_game("encounter")
    assert np.array_equal(record_episode(game, entry["policy"], tuple(entry["seed"]), 60).frames, episode.frames)


def test_its_window_tells_a_wrong_temperament_in_one_line(no_screen):
    from worldsim_envs.encounter.__main__ import main

    with pytest.raises(SystemExit, match="encounter: unknown temperament 'tmid'; did you mean 'timid'"):
        main(["--temperament", "tmid"])


@pytest.mark.parametrize("name", ["encounter", "encounter_pair"])
def test_each_of_its_choices_is_one_button_of_the_players_and_leaves_the_npcs_as_they_are(name):
    with make_game(name) as game:
        for choice in game.natives():
            game.reset(5)
            start, tempers = game.scene.figures[0].x, [figure.temperament for figure in game.scene.figures[1:]]
            for _ in range(12):
                game.step(choice)
            assert [figure.temperament for figure in game.scene.figures[1:]] == tempers
            held = [channel.name for channel, value in zip(game.actions.channels, choice, strict=True) if value]
            moved = game.scene.figures[0].x - start
            assert np.sign(moved) == {"left": -1, "right": 1}.get(held[0] if held else "", 0)
        assert len(game.natives()) == 1 + 2 + len(GESTURES)
    assert Encounter.effects["x"][1:3] == (-1, 1)


def test_nobody_in_particular_is_drawn_and_what_is_no_name_is_one_line():
    env = EncounterEnv(temperament="timid")
    drawn = {env.reset(seed=seed, options={"temperament": None})[1]["temperament"] for seed in range(12)}
    assert len(drawn) > 1
    with pytest.raises(ValueError, match="temperament=3; give a name, or one for each NPC"):
        env.reset(options={"temperament": 3})
