"""The settings of a run, and what is refused of them before anything is trained."""

from dataclasses import replace

import pytest
from tiny_run import run, settings

from worldsim_training.plan import STAGES

pytestmark = pytest.mark.usefixtures("dot_game")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("stage=export_",), f"unknown stage 'export_'; use one of {', '.join(STAGES)}"),
        (("stage=dmd",), "world.dmd.loop.steps is 0, which leaves stage dmd out; set it to at least 1"),
        (("world.release=best",), "world.release is 'best'; use one of distillation, dmd"),
        (("world.default_steps=3",), "world.default_steps is 3; use 1, 2 or 4"),
        (("world.distillation=lcm",), "world.distillation is 'lcm'; use one of consistency, ode"),
        (("stage=teacher_forcing", "world.init=bidirectional"), "run stage=bidirectional to its end first"),
        (("world.consistency.solver=rk4",), "world.consistency.solver is 'rk4'; use one of euler, heun"),
        (("scale=zero",), "scale is 'zero'; use one of ddp, fsdp"),
        (("device=toaster",), "unknown device 'toaster'; use auto, cpu, cuda or cuda:N"),
        (("world.game=chess",), "unknown game 'chess'"),
        (("gates.motion=[1.4,0.7]",), "gates.motion is 1.4 to 0.7; give the least ratio, then the most"),
        (("world.dmd.patience=-1",), "world.dmd.patience is -1; use at least 1, or 0 to never stop early"),
        (("validation_on_cpu.frames=1",), "validation on 2 clips of 1 frames; it needs at least 1 clip and 2 frames"),
        (("world.ode.loop.accumulate=0",), "loop.accumulate is 0; use at least 1"),
        (
            ("world.ode.loop.batch=4", "world.ode.loop.accumulate=3"),
            "loop.batch is 4, which does not split into 3 micro-batches; let loop.accumulate divide it",
        ),
        (("stage=teacher_forcing",), "no dataset at .*; record one with"),
    ],
)
def test_wrong_settings_are_named(tmp_path, changes, message):
    with pytest.raises((ValueError, OSError), match=message):
        run(tmp_path, *changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("kept_sigma=0.7", "needs a network that has learnt it; set world.context.kept_share above 0"),
        ("context.kept_share=2", "kept_share is 2.0, kept_sigmas 0.25 to 0.7; use a share of 0 to 1 and levels above"),
        ("context.kept_sigmas=[0.5,0.2]", "use a share of 0 to 1 and levels above 0 and below 1"),
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


def test_a_configuration_cannot_be_changed(tmp_path):
    with pytest.raises(AttributeError, match="cannot assign"):
        settings(tmp_path).world.name = "other"
    assert replace(settings(tmp_path), stage="export").stage == "export"
