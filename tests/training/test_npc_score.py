"""The score of an NPC's answers: what it gives the real game, liars, and a random world."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tiny import save_tiny_world, tiny_encounter

from worldsim_envs.encounter.rules import REACTIONS
from worldsim_envs.games.encounter import Encounter
from worldsim_envs.npc.stage import walk_up
from worldsim_training import npc_score, reactions
from worldsim_training.npc_score import (
    BARS,
    answer_trials,
    change_trials,
    idle_trials,
    judged,
    least_right,
    main,
    score,
    score_answers,
    table,
)
from worldsim_training.reactions import LABELS

pytestmark = pytest.mark.usefixtures("one_thread")
SEEDS = range(3)


def truth(trial):
    """The labels of a clip of the real game, by playing its actions again."""
    game, labels = Encounter(), [0]
    game.restore(walk_up(trial.seed, trial.opened_as).scene)
    for action, frame in zip(trial.clip.actions, trial.clip.frames[1:], strict=True):
        assert np.array_equal(game.step(action)[0], frame)
        act = game.scene.figures[1].act
        labels.append(LABELS.index(act) if act in REACTIONS else 0)
    return np.array(labels)


@pytest.fixture(scope="module")
def perfect():
    return score("game", truth, SEEDS)


def test_the_real_game_under_perfect_eyes_is_right_in_everything(perfect):
    assert (perfect["answers"], perfect["changes"], perfect["false"]) == (1, 1, 0)
    assert (perfect["delay_lawful"], perfect["changes_delay_lawful"]) == (1, 1)
    assert 0.2 < perfect["delay_error_frames"] < 0.8  # the dice alone
    assert (perfect["answers_counted"], perfect["changes_counted"], perfect["false_counted"]) == (60, 36, 72)


def test_one_who_does_the_same_whatever_happens_is_found_out(perfect):
    waves = score("game", lambda trial: np.full(len(trial.clip) + 1, LABELS.index("wave")), SEEDS)
    assert waves["answers"] == 0.05 and waves["answers_wave_friendly"] == 1 and waves["false"] == 1
    assert waves["changes"] < 0.2 and waves["delay_lawful"] == 0
    sleeps = score("game", lambda trial: np.zeros(len(trial.clip) + 1, int), SEEDS)
    assert sleeps["answers"] == sleeps["changes"] == sleeps["false"] == 0 and "delay_error_frames" not in sleeps


def test_an_npc_that_keeps_its_old_temperament_gets_no_change_right():
    def stubborn(trial):
        labels = np.zeros(len(trial.clip) + 1, int)
        labels[4:] = LABELS.index(replace(trial, temperament=trial.opened_as).expected)
        return labels

    assert score_answers(change_trials("game", SEEDS), stubborn, "changes")["changes"] == 0
    assert score_answers(answer_trials("game", SEEDS), stubborn)["answers"] == 1


def test_trials_of_a_world_begin_at_the_same_moments_as_those_of_the_game():
    world = tiny_encounter()
    for trials in (answer_trials, change_trials, idle_trials):
        one, other = (next(trials(where, [5])) for where in ("game", world))
        assert np.array_equal(one.clip.frames[0], other.clip.frames[0])
        assert np.array_equal(one.clip.actions, other.clip.actions) and one.gesture == other.gesture
        assert not np.array_equal(one.clip.frames[1:], other.clip.frames[1:])


@pytest.fixture
def any_reader(monkeypatch):
    """Readers are tried on one episode and need not read well."""
    monkeypatch.setattr(reactions, "LEAST_ACCURACY", 0.0)
    monkeypatch.setattr(npc_score, "ready_reader", partial(reactions.ready_reader, episodes=12, steps=2, held_out=1))


def test_the_command_scores_the_game_and_a_world_and_writes_flat_json(any_reader, tmp_path, capsys):
    reader = tmp_path / "new" / "reader.safetensors"  # trained for the first and kept for the second
    tiny_encounter(dim=16, depth=1).save_pretrained(tmp_path / "world")
    for world in ("game", str(tmp_path / "world")):
        out = tmp_path / "npc.json"
        main([world, "--reader", str(reader), "--scenes", "1", "--json", str(out)])
        figures = json.loads(out.read_text())
        assert set(BARS) | {"reader_answers"} <= {*figures, "delay_error_frames"}
        assert table(figures) in capsys.readouterr().out and reader.is_file()
        told = {key: value for key, value in figures.items() if not isinstance(value, float)}
        assert told["command"].startswith(f"python -m worldsim_training.npc_score {world} --seed 0 --device cpu")
        assert told["world"] == {"game": "game"}.get(world, "encounter") and told["env_id"] == Encounter.env_id
        assert ("world_manifest_sha256" in told) == (world != "game")


def test_figures_are_held_against_their_bars(perfect):
    gates = {gate.key: gate for gate in judged(perfect | {"false": 0.03})}
    assert {key: gate.verdict for key, gate in gates.items()} == dict.fromkeys(BARS, "pass") | {"false": "fail"}
    assert (gates["answers"].wanted, gates["delay_error_frames"].wanted) == ("0.9 or more", "1 or less")
    assert [gate.verdict for gate in judged({"answers": 0.0})] == ["fail"] * 4
    assert [(gate.key, gate.verdict) for gate in judged({"onset_error": 0.08})] == [("onset_error", "pass")]
    with pytest.raises(ValueError, match="the figures tell of no NPC's answers"):
        judged({"control_c": 1.0})
    assert least_right(perfect | {"answers_bow_timid": 0.4}) == (0.4, "bow", "timid")


def test_wrong_arguments_are_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="npc_score: unknown world 'gaem'"):
        main(["gaem"])
    with pytest.raises(SystemExit, match="npc_score: --scenes 0 --states 300 --seed 0; give at least 1 scene"):
        main(["game", "--scenes", "0"])
    save_tiny_world(tmp_path / "tiny")
    with pytest.raises(SystemExit, match="npc_score: world tiny paints 64x48; boxing shows 64x64"):
        main([str(tmp_path / "tiny")])
