"""The settings of a run, and what is refused of them before anything is trained."""

from dataclasses import replace

import pytest
from dot_game import DotGame
from tiny import tiny_denoiser
from tiny_run import run, settings

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim_training.episodes import read_meta, write_meta
from worldsim_training.pipeline import Pipeline
from worldsim_training.plan import STAGES

pytestmark = pytest.mark.usefixtures("dot_game")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("stage=export_",), f"unknown stage 'export_'; use one of {', '.join(STAGES)}"),
        (("stage=dmd",), "world.dmd.loop.steps is 0, which leaves stage dmd out; set it to at least 1"),
        (("world.release=dmd",), "world.release is dmd, but world.dmd.loop.steps is 0"),
        (("world.consistency.intervals=1", "world.consistency.mean_share=0.1"), "has no level below pure noise"),
        (
            ("world.dmd.loop.steps=2", "world.dmd.loop.batch=2", "world.dmd.other_actions_share=0.2"),
            "world.dmd.other_actions_share=0.2 of 2 clips at once is none of them",
        ),
        (("world.release=best",), "world.release is 'best'; use one of distillation, dmd"),
        (("world.default_steps=3",), "world.default_steps is 3; use 1, 2 or 4"),
        (("world.start_policies=[nobody]",), "world.start_policies has nobody; this world's are "),
        (("world.distillation=lcm",), "world.distillation is 'lcm'; use one of consistency, ode"),
        (("stage=teacher_forcing", "world.init=bidirectional"), "run stage=bidirectional to its end first"),
        (("world.consistency.solver=rk4",), "world.consistency.solver is 'rk4'; use one of euler, heun"),
        (("scale=zero",), "scale is 'zero'; use one of ddp, fsdp"),
        (("device=toaster",), "unknown device 'toaster'; use auto, cpu, cuda or cuda:N"),
        (("world.game=chess",), "unknown game 'chess'"),
        (("gates.motion=[1.4,0.7]",), "gates.motion is 1.4 to 0.7; give the least ratio, then the most"),
        (("world.dmd.patience=-1",), "world.dmd.patience is -1; use at least 1, or 0 to never stop early"),
        (("validation_on_cpu.frames=1",), "validation on 2 clips of 1 frames; it needs at least 1 clip and 2 frames"),
        (("world.ode.loop.accumulate=0",), "world.ode.loop.accumulate=0; use at least 1"),
        (
            ("world.ode.loop.batch=4", "world.ode.loop.accumulate=3"),
            "world.ode.loop.batch=4, which does not split into 3 micro-batches; let world.ode.loop.accumulate divide",
        ),
        (("stage=teacher_forcing",), "no dataset at .*; record one with .* game=dot frames"),
    ],
)
def test_wrong_settings_are_named(tmp_path, changes, message):
    with pytest.raises((ValueError, OSError), match=message):
        run(tmp_path, *changes)


WRONG = {
    "give a number above 0": (
        *("shift=0", "shift=-1.0", "shift=.nan", "teacher_forcing.shift=0", "bidirectional.shift=-2"),
        *("consistency.grid_shift=0", "ode.grid_shift=-1", "dmd.critic_learning_rate=-1e-5"),
        *(f"{stage}.loop.learning_rate={rate}" for stage in ("ode", "outcomes") for rate in ("0", "-1e-3", ".inf")),
        *(
            f"{stage}.weight_floor={least}"
            for stage in ("teacher_forcing", "bidirectional", "dmd")
            for least in (0, -1)
        ),
        *("consistency.loop.clip_norm=0", "teacher_forcing.loop.clip_norm=-1"),
    ),
    "give 0 or more": (
        *("ode.loop.seconds=-1", "outcomes.loop.seed=-1", "teacher_forcing.loop.warmup=-1", "still_levels=-1"),
        "consistency.loop.weight_decay=-0.1",
    ),
    "give a share from 0 to below 1": (
        *("ode.loop.ema=1", "outcomes.loop.ema=-0.1", "outcomes.loop.ema=1.5"),
        *("teacher_forcing.loop.beta_1=1", "teacher_forcing.loop.beta_2=-1"),
    ),
    "give a share from 0 to 1": (
        *(f"{stage}.loop.decay={share}" for stage in ("teacher_forcing", "outcomes") for share in (-0.1, 1.1)),
        *(
            f"{name}={share}"
            for name in (
                *(f"context.{each}_share" for each in ("painted", "noise", "kept", "drifted")),
                *("context.action_dropout", "consistency.mean_share", "bidirectional.clean_start_share"),
                *("teacher_forcing.pure_noise", "outcomes.reward_share", "outcomes.end_share"),
            )
            for share in (5, -1)
        ),
    ),
    "give a noise level above 0, up to 1": ("single_sigma=0", "single_sigma=1.5"),
    "give a noise level from 0 to 1": ("context.noise_max=2", "context.noise_max=-1"),
    "give noise levels above 0, up to 1, each below the one before": tuple(
        f"context.painted_sigmas={each}" for each in ("[]", "[1.5]", "[1.0,0]", "[0.5,0.5]", "[0.5,1.0]")
    ),
    "use at least 1": (
        *(f"model.{name}=0" for name in ("dim", "heads", "depth", "window", "temporal_every")),
        *("context.painted_rounds=0", "ode.intervals=0", "consistency.intervals=0", "ode.points=0", "starts=0"),
        *("outcomes.width=0", "outcomes.loop.steps=0", "teacher_forcing.loop.batch=0", "ode.loop.checkpoint_every=0"),
    ),
    "let dim be a multiple of twice the heads": ("model.heads=3", "model.dim=18"),
    "give two widths of at least 1": ("model.conv_widths=[8]", "model.conv_widths=[8,8,8]", "model.conv_widths=[8,0]"),
    "together they are 1 at most": ("outcomes.reward_share=0.9",),
}


@pytest.mark.parametrize(("change", "asks"), [(each, asks) for asks, changes in WRONG.items() for each in changes])
def test_a_setting_out_of_its_range_is_refused_in_one_line_as_it_is_typed(tmp_path, change, asks):
    with pytest.raises(ValueError) as refusal:
        run(tmp_path, f"world.{change}")
    message = str(refusal.value)
    assert f"world.{change.split('=')[0]}=" in message
    assert message.endswith(f"; {asks}") and "\n" not in message
    assert not list(tmp_path.iterdir())


def test_the_ends_of_the_ranges_are_right(tmp_path):
    loops = ("decay=0", "decay=1", "ema=0", "seconds=0", "seed=0", "warmup=0", "beta_1=0", "clip_norm=.inf")
    shares = ("noise_share=0", "painted_share=1", "action_dropout=1", "noise_max=0", "painted_sigmas=[1.0,0.01]")
    changes = [f"world.ode.loop.{each}" for each in loops] + [f"world.context.{each}" for each in shares]
    for change in (*changes, "world.single_sigma=1", "world.teacher_forcing.pure_noise=1", "world.shift=0.5"):
        Pipeline(settings(tmp_path, change))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("kept_sigma=0.7", "needs a network that has learnt it; set world.context.kept_share above 0"),
        ("context.kept_share=2", "kept_share=2.0; give a share from 0 to 1$"),
        ("context.kept_sigmas=[0.5,0.2]", "kept_sigmas are 0.5 to 0.2; use levels above 0 and below 1"),
        (
            "context.kept_share=1 context.painted_share=1",
            "painted_sigmas end at 1.0; end them within kept_sigmas, 0.25",
        ),
        (
            "context.kept_share=1 context.painted_share=0 kept_sigma=0.7 dmd.loop.steps=5",
            "world.dmd trains a memory of committed frames",
        ),
        (
            "context.kept_share=1 context.painted_share=0 kept_sigma=0.1",
            r"kept_sigma=0.1 keeps 0 of the last calls, at \[1.0, 0.66",
        ),
        ("context.kept_share=1 context.painted_share=0 kept_sigma=1.0", "kept_sigma=1.0 keeps 3 of the last calls"),
        (
            "context.kept_share=1 context.painted_share=0 kept_sigma=0.8 shift=3",
            "kept_sigma=0.8 keeps 2 of the last calls",
        ),
    ],
)
def test_calls_are_kept_in_play_only_as_training_keeps_them(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, *(f"world.{change}" for change in changes.split()))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"lag": 3}, "head has lag 3; this world asks for 1$"),
        ({"width_conv": 8}, "head has width_conv 8; this world asks for 4$"),
        ({"width": 16}, "head has width 16; this world asks for 24$"),
        ({"height": 24}, "head has height 24; this world asks for 16$"),
    ],
)
def test_a_head_of_another_form_is_not_trained_on_and_that_is_said_before_anything_is_recorded(
    tmp_path, other, message
):
    OutcomeHead(**{"height": 16, "width": 24, "width_conv": 4, **other}).save_pretrained(tmp_path / "head")
    with pytest.raises(ValueError, match=message):
        run(tmp_path, f"world.outcomes.init={tmp_path / 'head'}")
    assert [path.name for path in tmp_path.iterdir()] == ["head"]


def test_what_is_no_head_is_not_trained_on_and_that_is_said_before_anything_is_recorded(tmp_path):
    change = f"world.outcomes.init={tmp_path / 'head'}"
    with pytest.raises(
        FileNotFoundError, match="there is no .*head/config.json; let world.outcomes.init be the folder"
    ):
        run(tmp_path, change)
    tiny_denoiser().save_pretrained(tmp_path / "head")
    with pytest.raises(ValueError, match="head holds a network of class CausalDiT; let world.outcomes.init be the"):
        run(tmp_path, change)
    (tmp_path / "head" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="there is no .*model.safetensors; let world.outcomes.init be the"):
        run(tmp_path, change)
    assert [path.name for path in tmp_path.iterdir()] == ["head"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"height": 24}, "network in .* has height 24; this world asks for 16$"),
        ({"dim": 32, "heads": 4}, "network in .* has dim 32; this world asks for 16$"),
        ({"action_size": 3}, "takes 3 action channels; dot has ActionSpec"),
    ],
)
def test_a_network_of_another_form_is_not_trained_on_and_that_is_said_before_anything_is_recorded(
    tmp_path, other, message
):
    chosen = settings(tmp_path).world
    form = {"height": 16, "width": 24, "action_size": DotGame.actions.size, **vars(chosen.model)}
    CausalDiT(**{**form, **other}).save_pretrained(tmp_path / "network")
    with pytest.raises(ValueError, match=message):
        run(tmp_path, f"world.init={tmp_path / 'network'}")
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_what_is_no_network_is_not_trained_on_and_that_is_said_before_anything_is_recorded(tmp_path):
    change = f"world.init={tmp_path / 'world'}"
    with pytest.raises(
        FileNotFoundError, match="there is no .*config.json; let world.init be the folder of a network$"
    ):
        run(tmp_path, change)
    tiny_denoiser().save_pretrained(tmp_path / "world" / "denoiser")
    with pytest.raises(FileNotFoundError, match="be the folder of a network, such as .*world/denoiser$"):
        run(tmp_path, change)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_recording_that_is_not_finished_or_has_too_few_rounds_is_told_from_one_that_is_too_short(tmp_path):
    assert run(tmp_path, stage="collect")
    meta = read_meta(tmp_path / "data")
    write_meta(tmp_path / "data", {**meta, "complete": False})
    with pytest.raises(ValueError, match="data is not finished; run stage=collect to its end first"):
        run(tmp_path, stage="teacher_forcing")
    kept = [each for each in meta["episodes"] if each["split"] != "validation"]
    write_meta(tmp_path / "data", {**meta, "episodes": kept})
    with pytest.raises(ValueError, match="data has no validation episode; .* play three rounds or more"):
        run(tmp_path, stage="teacher_forcing")


def test_a_run_on_a_cpu_says_that_the_validation_of_a_gpu_does_not_count(tmp_path, capsys):
    Pipeline(settings(tmp_path))
    assert "validation" not in capsys.readouterr().err
    assert Pipeline(settings(tmp_path, "validation.clips=3")).validation.clips == 2
    assert "scored as validation_on_cpu says, not validation" in capsys.readouterr().err


def test_a_configuration_cannot_be_changed(tmp_path):
    with pytest.raises(AttributeError, match="cannot assign"):
        settings(tmp_path).world.name = "other"
    assert replace(settings(tmp_path), stage="export").stage == "export"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("world.data.clip_frames=60",), "longest train episode in .* has 41 frames; world.data.clip_frames are 60"),
        (("world.model.window=40",), "longest validation episode in .* has 41 frames; world.model.window and 2 frames"),
        (("world.dmd.loop.steps=2", "world.dmd.frames=60"), "world.dmd.context_frames and frames are 6"),
    ],
)
def test_clips_longer_than_every_episode_are_refused_before_anything_is_trained(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, *changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("count", "frames"), [(1, 41), (5, 37), (40, 5)])
def test_networks_are_scored_on_the_longest_stretches_of_which_there_are_as_many_as_clips(
    tmp_path, capsys, count, frames
):
    """The only validation episode has 41 frames."""
    pipeline = Pipeline(settings(tmp_path, "stage=collect"))
    assert pipeline.run()
    pipeline.validation = replace(pipeline.validation, clips=count, frames=64)
    clips, past = pipeline._held_out()
    assert clips.frames.shape[1] == frames and past == 3
    said = f"scored on {frames - 3} frames, not 64: validation episodes have fewer than {count} stretches"
    assert said in capsys.readouterr().err
