import json
import sys

import pytest

from worldsim_training import compare


def write_run(folder, scores):
    folder.mkdir(parents=True)
    rows = [{"step": 500, "loss": 0.2, "seconds": 30.0}, {"step": 640, "loss": 0.1, "seconds": 40.0}]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "validation.json").write_text(json.dumps(scores))


def test_the_table_shows_the_variants_that_have_finished(tmp_path):
    scores = {"gain_1_db": 4.0, "gain_4_db": 3.456, "gain_16_db": 2.0, "motion_ratio": 1.0, "sharpness_ratio": 0.9}
    write_run(tmp_path / "conv" / "teacher_forcing", {"2_step": scores, "16_step_ode": {**scores, "gain_64_db": 1.5}})
    lines = compare.table(tmp_path).splitlines()
    assert lines[0].startswith("| variant | updates | seconds | steps | gain_1_db |")
    assert lines[2] == "| conv | 640 | 40.0 | 2 | 4.00 | 3.46 | 2.00 |  | 1.00 | 0.90 |"
    assert lines[3] == "| conv | 640 | 40.0 | 16 step ode | 4.00 | 3.46 | 2.00 | 1.50 | 1.00 | 0.90 |"
    assert len(lines) == 4


def test_every_variant_is_a_command_that_hydra_accepts(tmp_path):
    """The settings of all variants compose with the training configuration."""
    from hydra import compose, initialize_config_module

    from worldsim_training import config

    config.register()
    seen = []
    with initialize_config_module("worldsim_training.conf", version_base="1.3"):
        for variant in compare.VARIANTS:
            words = compare.command(variant, tmp_path / "data", tmp_path, 60.0, ["device=cpu"])
            assert words[:3] == [sys.executable, "-m", "worldsim_training"]
            settings = compose("training", overrides=words[3:])
            loop = settings.world.teacher_forcing.loop
            assert (loop.seconds, loop.decay, settings.stage) == (60.0, 0.0, "teacher_forcing")
            assert not settings.gates.enabled  # a poor variant is a row of the table
            assert settings.out == str(tmp_path / variant)
            model, context = settings.world.model, settings.world.context
            seen.append((model.stem_kind, model.previous_frame, context.painted_share))
    assert len(set(seen)) == len(compare.VARIANTS)
    assert [share for *_, share in seen] == [0.0, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("together", [(), ("--together",)])
def test_a_variant_that_fails_is_reported_and_further_words_reach_it(together, tmp_path, monkeypatch, capfd):
    words = ["compare", "--data", str(tmp_path / "data"), "--out", str(tmp_path), *together, "world.model.dimm=8"]
    monkeypatch.setattr(compare, "VARIANTS", {"conv": ("stem_kind=conv",)})
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="compare: a variant failed; its message is above"):
        compare.main()
    assert "Key 'dimm' not in 'ModelConfig'" in capfd.readouterr().err
    assert not (tmp_path / "table.md").exists()
