"""The model card that an evaluation's figures write."""

import hashlib
import json

import pytest
from tiny import save_tiny_world
from toy_worlds import RealWorld

from worldsim.info import world_facts
from worldsim_training import card, npc_score
from worldsim_training.report.words import title

BY_HAND = """---
license: mit
datasets: [recorded with ale-py]
model-index: []
---

# By hand

What people wrote.

## Training

On a laptop; it took a day.

## Measured

Old figures.

## Limits

- Small.
"""


@pytest.fixture
def folder(tmp_path):
    return save_tiny_world(tmp_path / "tiny")


@pytest.fixture
def figures(folder):
    return {
        "world": "tiny", "env_id": RealWorld.info.env_id, "split": "test", "seed": 3, "steps": 2, "episodes": 6,
        "windows": 13, "device": "cpu", "threads": 1, "command": "worldsim eval tiny --split test --seed 3",
        "test_split_opened": 1,
        "world_manifest_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "version_torch": "2.13.0", "gain_1_db": 4.567, "gain_1_db_low": 4.1, "gain_1_db_high": 5.2,
        "psnr_1_db": 30.0, "floor_1_db": 25.43, "control_c": 0.5, "control_c_low": 0.4, "control_c_high": 0.6,
        "luck_control_c": 0.99, "collapsed": 1, "rollouts": 50, "refused_actions": "it scores .2 on real frames",
        "probe_ratio_16_worst": 1.1, "probe_refused": "ball_x", "steps_1_control_c": 0.6, "steps_2_control_c": 0.7,
    }  # fmt: skip


def test_the_measured_part_has_value_interval_bar_and_verdict(folder, figures):
    text = card.write_card(figures, folder)
    assert "1 step ahead | **4.57 dB** [4.10, 5.20] | PSNR 30.00 against 25.43 dB |" in text
    assert "**0.5** [0.4, 0.6] | wanted 0.9 to 1.1; the real game with other luck 0.99 | fail |" in text
    assert "| long rollouts that collapse | **1 of 50** | wanted 0 | fail |" in text
    assert "| control C at 1, 2 denoising steps | 0.6, 0.7 | on fewer trials | |" in text
    assert "Does not pass: the action decides the pixels it should: 0 ignored, 1 perfect; long rollouts" in text
    refused = text[text.index("Refused by their own check") : text.index("Not measured")]
    assert "it scores .2 on real frames" in refused and "ball_x" in refused
    assert "rewards of the right value at the right step (F1)" in text[text.index("Not measured") :]


def test_the_teacher_stands_beside_the_step_counts(folder, figures):
    text = card.write_card(figures | {"teacher_control_c": 0.9, "teacher_steps": 32}, folder)
    assert "| control C at 1, 2 denoising steps | 0.6, 0.7; its teacher at 32 steps 0.9 | on fewer trials | |" in text


def test_the_card_tells_how_it_was_measured(folder, figures):
    text = card.write_card(figures, folder)
    assert "    worldsim eval tiny --split test --seed 3" in text
    assert f"manifest `{figures['world_manifest_sha256'][:12]}`" in text and "torch 2.13.0" in text
    assert (
        "Test split (opened once for these weights), 2 steps, 6 episodes, 13 windows, seed 3" in text
        and "cpu, 1 thread;" in text
    )


def test_a_world_without_a_card_gets_one_that_says_what_is_not_told(folder, figures):
    text = card.write_card(figures, folder)
    assert "# Tiny\n\nAn imagined `ALE/Boxing-v5`: 64x48 pixels, 15 frames a second, 18 actions." in text
    assert f"18 actions. `worldsim play {folder}`.\n" in text
    assert "`CausalDiT`: dim 32, depth 3, heads 2, window 4" in text
    assert "## Data\n\nNot told." in text and "## Limits\n\nNot told." in text
    assert text.index("## What it is") < text.index("## Data") < text.index("## Measured") < text.index("## Limits")


def test_what_people_wrote_is_kept_word_for_word(folder, figures):
    (folder / "README.md").write_text(BY_HAND)
    text = card.write_card(figures, folder)
    for words in (
        "# By hand\n\nWhat people wrote.",
        "## Training\n\nOn a laptop; it took a day.",
        "## Limits\n\n- Small.",
    ):
        assert words in text
    assert "Old figures" not in text and text.count("## Measured") == 1
    (folder / "README.md").write_text(text)
    assert card.write_card(figures, folder) == text


def test_the_header_is_what_info_prints(folder, figures):
    (folder / "README.md").write_text(BY_HAND)
    (folder / "README.md").write_text(card.write_card(figures, folder))
    facts = world_facts(folder)
    assert (facts["licence"], facts["data"]) == ("mit", "recorded with ale-py")
    assert facts["measured"] == "gain_1_db 4.567, control_c 0.5, probe_ratio_16_worst 1.1, collapsed 1.0"


def test_speed_comes_from_the_bench_of_the_same_weights(folder, figures):
    speed = {
        "world_manifest_sha256": figures["world_manifest_sha256"], "fps_all_in": 28.51, "frame_ms_p95": 39.2,
        "steps": 2, "device": "cpu", "threads": 2, "cpu": "some CPU", "game_fps": 15, "command": "worldsim bench tiny",
    }  # fmt: skip
    text = card.write_card(figures, folder, speed)
    assert "2 steps, cpu, 2 threads of some CPU | **28.5** (39 ms p95) | the game runs at 15 | |" in text
    assert "    worldsim bench tiny" in text and "value: 28.51" in text
    with pytest.raises(ValueError, match="the figures are of manifest other.*worldsim bench it"):
        card.write_card(figures, folder, speed | {"world_manifest_sha256": "other"})


@pytest.fixture
def npc(figures):
    """Figures as `npc_score` writes them, of Encounter's kind."""
    cells = {f"answers_{gesture}_{who}": 0.975 for gesture in npc_score.ANSWERED for who in npc_score.TEMPERAMENTS}
    return {
        "world": "tiny", "env_id": "worldsim/EncounterGame-v0", "command": "python -m worldsim_training.npc_score tiny",
        "world_manifest_sha256": figures["world_manifest_sha256"], **cells, "answers_threaten_hostile": 0.8,
        "answers": 0.975, "answers_counted": 200.0, "delay_error_frames": 0.2279, "false": 0.03, "false_counted": 240.0,
        "changes": 0.983, "changes_counted": 120.0, "reader_answers": 0.9908, "reader_answers_counted": 544.0,
    }  # fmt: skip


def test_an_npcs_answers_are_rows_and_stand_in_the_header(folder, figures, npc):
    text = card.write_card(figures, folder, npc=npc)
    rows = [line for line in text.splitlines() if line.startswith("| an NPC's")]
    assert rows == [
        "| an NPC's right answers, by gesture and temperament (share) | **0.975** of 200; least 0.8 (hostile, threaten)"
        " | wanted 0.9 or more; its reader is right in 0.991 of 544 of the game itself | pass |",
        "| an NPC's delay, mean error (frames) | **0.2279** | wanted 1 or less | pass |",
        "| an NPC's answers to nothing (share) | **0.03** of 240 | wanted 0.02 or less | fail |",
        "| an NPC's right answers after its temperament changed in mid-scene (share) | **0.983** of 120"
        " | wanted 0.9 or more | pass |",
    ]
    assert "long rollouts that collapse; an NPC's answers to nothing (share)." in text
    assert "    python -m worldsim_training.npc_score tiny\n" in text
    (folder / "README.md").write_text(text)
    assert "collapsed 1.0, answers 0.975, delay_error_frames 0.2279, false 0.03" in world_facts(folder)["measured"]
    with pytest.raises(ValueError, match="the figures are of manifest None.*npc_score it"):
        card.write_card(figures, folder, npc={**npc, "world_manifest_sha256": None})


def test_a_real_games_opponent_is_a_row_of_its_states(folder, figures, npc):
    told = {key: npc[key] for key in ("world", "env_id", "command", "world_manifest_sha256")}
    seen = {"onset_error": 0.083, "luck_onset_error": 0.01, "states": 300.0}
    text = card.write_card(figures, folder, npc=told | seen)
    row = "(greatest difference) | **0.083** of 300 | wanted 0 to 0.1; the real game with other luck 0.01 | pass |"
    assert row in text and "NPC" not in text
    assert title("onset_error") in card.write_card(figures, folder)  # as not measured
    assert text.count(title("onset_error")) == 1


def test_the_command_writes_into_the_folder_and_refuses_other_weights(
    folder, figures, npc, tmp_path, capsys, monkeypatch
):
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(figures))
    monkeypatch.chdir(folder.parent.parent)
    given = f"{folder.parent.name}/{folder.name}"
    assert card.main([str(file), given]) == 0
    text = (folder / "README.md").read_text()
    assert f"`worldsim play {given}`" in text and text == card.write_card(figures, folder, given=given)
    (folder / "README.md").unlink()
    assert card.main([str(file), str(folder)]) == 0
    assert (folder / "README.md").read_text() == card.write_card(figures, folder)
    answers = tmp_path / "npc.json"
    answers.write_text(json.dumps(npc))
    assert card.main([str(file), str(folder), "--npc", str(answers)]) == 0
    assert (folder / "README.md").read_text() == card.write_card(figures, folder, npc=npc)
    file.write_text(json.dumps(figures | {"world_manifest_sha256": "0" * 64}))
    assert card.main([str(file), str(folder), "--out", str(tmp_path / "other.md")]) == 2
    assert "the figures are of manifest 000000000000..." in capsys.readouterr().err
    assert not (tmp_path / "other.md").exists()
