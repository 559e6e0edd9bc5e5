"""The temperament of an NPC in the player: set while playing, kept in replays, saves and episodes."""

from dataclasses import replace

import numpy as np
import pytest
from player_kit import Hand, files, press, release, tap
from tiny import tiny_encounter

pygame = pytest.importorskip("pygame")

from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim.player import controls  # noqa: E402
from worldsim.player.episodes import EpisodeWriter  # noqa: E402
from worldsim.replay import Replay  # noqa: E402
from worldsim_envs.env import WorldEnv  # noqa: E402


@pytest.fixture
def moody(monkeypatch, tmp_path):
    """A hand on a world whose NPC has a temperament."""
    from worldsim.player.folders import Folders
    from worldsim.player.game import Game
    from worldsim.player.screen import Window

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = WorldEnv(tiny_encounter())
    window = Window("Encounter", (64, 64), env.actions, scale=4)
    folders = Folders(tmp_path / "clips", tmp_path / "saves")
    yield Hand(Game(env, world="encounter", fps=1000, folders=folders, seed=7), window)
    window.close()


def lived(hand):
    """Six frames, the temperament changed twice on the way."""
    frames = []
    for index in range(6):
        hand.game.env.conditions = {1: {"npc": "hostile"}, 4: {"npc": "timid"}}.get(index, {})
        frames.append(hand.turn())
    return frames


def test_a_temperament_changed_in_mid_round_is_in_the_replay_file(moody):
    moody.turn("r")
    lived(moody)
    moody.turn("r")
    (file,) = files(moody, "*.replay.json")
    replay = Replay.load(file)
    assert replay.rounds[0].changes == [[2, {"npc": "hostile"}], [5, {"npc": "timid"}]]
    env = WorldEnv(moody.game.env.model)
    assert replay.check(env) == []
    assert replace(replay, rounds=[replace(replay.rounds[0], changes=None)]).check(env) == [0]


def test_v_goes_through_the_temperaments_and_the_replay_follows(moody):
    values = ("friendly", "timid", "proud", "hostile")  # not "driven", for whose buttons there are no keys
    assert moody.game.env.actions.conditions["npc"] == (*values, "driven")
    first = values.index(moody.game.env.conditions["npc"])
    moody.turn("r")
    for step in range(1, len(values) + 1):
        moody.turn("v")
        wanted = values[(first + step) % len(values)]
        assert moody.game.env.conditions["npc"] == wanted and moody.note == f"temperament: {wanted}"
        moody.turn()
    moody.turn("r")
    (file,) = files(moody, "*.replay.json")
    replay = Replay.load(file)
    assert len(replay.rounds[0].changes) == len(values) and replay.check(WorldEnv(moody.game.env.model)) == []


def test_v_leaves_out_driven_only_where_the_player_has_no_keys_for_its_buttons():
    names = ("npc_shy", "npc_bold", "npc_driven", "npc_left")
    told = {"conditions": {"npc": ("shy", "bold", "driven")}}
    values = []
    for keys in ({}, {"npc_left": ()}, {"npc_left": ("j",)}):
        spec = ActionSpec([Channel(name) for name in names], keys=keys, **told)
        values.append([controls.next_value(spec, "npc", value) for value in ("shy", "bold", "driven")])
    assert values == [["bold", "shy", "shy"], ["bold", "shy", "shy"], ["bold", "driven", "shy"]]


def test_v_changes_nothing_while_frames_are_taken_back_or_the_round_is_over(moody):
    moody.turns(12)
    held = moody.game.env.conditions
    press("backspace")
    moody.turns(2)
    moody.turn("v")
    assert "let Backspace go" in moody.note and moody.game.mode == "rewind"
    release("backspace")
    moody.turn()
    assert moody.game.env.conditions == held
    moody.game.session.timeline.over = True
    moody.turn("v")
    assert "new round with N" in moody.note and moody.game.env.conditions == held


def test_v_in_a_world_without_temperaments_is_one_line(hand):
    hand.turn("v")
    assert hand.note == "there are no temperaments in this world"


def test_what_held_holds_again_after_a_rewind_and_in_a_saved_game(moody):
    frames = lived(moody)
    moody.turn("f5")
    session = moody.game.session
    session.back_to(3)
    assert moody.game.env.conditions == {"npc": "hostile"} and np.array_equal(session.frame, frames[2])
    assert [index for index, _ in session.timeline.changes] == [1]
    tap("tab")
    moody.turn("f9")
    assert session.timeline.changes == [(1, {"npc": "hostile"}), (4, {"npc": "timid"})]
    assert moody.game.env.conditions == {"npc": "timid"}


def test_the_episode_of_a_round_names_what_held(moody, tmp_path):
    lived(moody)
    path = EpisodeWriter(tmp_path / "data", moody.game.env.facts(), "imagined").add(
        moody.game.session.timeline, "human"
    )
    spec = moody.game.env.actions
    with np.load(path) as stored:
        told = [spec.conditions_of(action)["npc"] for action in stored["actions"]]
    first = moody.game.session.timeline.began["npc"]
    assert told == [first, "hostile", "hostile", "hostile", "timid", "timid"]
