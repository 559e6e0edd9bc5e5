"""What a run takes in turn, and whether its settings can be run at all."""

from __future__ import annotations

from worldsim.sampler import NOMINAL_STEPS
from worldsim_training import consistency, dmd, gates, loop, parallel, processes
from worldsim_training.config import TrainingConfig, ValidationConfig

STAGES = ("collect", "bidirectional", "teacher_forcing", "consistency", "ode", "dmd", "outcomes", "export")
DISTILLATIONS = {"consistency": "consistency", "ode": "ode", "none": "teacher_forcing"}
"""The stage whose network each way of distillation leaves."""
RELEASES = ("distillation", "dmd")


def stages(config: TrainingConfig) -> list[str]:
    """Names of the stages that this run takes, in turn."""
    if config.stage:
        return [config.stage]
    world = config.world
    scored = bool(world.dmd.loop.steps) and world.dmd.scoring == "bidirectional"
    wanted = {stage: stage == world.distillation for stage in ("consistency", "ode")}
    wanted |= {"bidirectional": scored or world.init == "bidirectional", "dmd": bool(world.dmd.loop.steps)}
    return [stage for stage in STAGES if wanted.get(stage, True)]


def check(config: TrainingConfig, validation: ValidationConfig) -> None:
    """ValueError where a setting is not one that the stages can run with."""
    world = config.world
    if config.stage not in (None, *STAGES):
        raise ValueError(f"unknown stage {config.stage!r}; use one of {', '.join(STAGES)}")
    if world.distillation not in DISTILLATIONS:
        raise ValueError(f"world.distillation is {world.distillation!r}; use one of {', '.join(DISTILLATIONS)}")
    if validation.clips < 1 or validation.frames < 2:
        seen = f"{validation.clips} clips of {validation.frames} frames"
        raise ValueError(f"validation on {seen}; it needs at least 1 clip and 2 frames")
    if world.data.clip_frames < 2:
        raise ValueError(f"world.data.clip_frames is {world.data.clip_frames}; a clip has at least 2 frames")
    if world.default_steps not in NOMINAL_STEPS:
        raise ValueError(f"world.default_steps is {world.default_steps}; use 1, 2 or 4")
    if world.kept_sigma and (not world.context.kept_share or world.dmd.loop.steps):
        seen = "world.dmd" if world.dmd.loop.steps else "world.context.kept_share=0"
        raise ValueError(f"{seen} trains a memory of committed frames; leave it or world.kept_sigma out")
    if world.release not in RELEASES:
        raise ValueError(f"world.release is {world.release!r}; use one of {', '.join(RELEASES)}")
    if config.scale not in parallel.SCALES:
        raise ValueError(f"scale is {config.scale!r}; use one of {', '.join(parallel.SCALES)}")
    consistency.check(world.consistency)
    dmd.check(world.dmd)
    gates.check(config.gates)
    trained = (world.bidirectional, world.teacher_forcing, world.consistency, world.ode, world.outcomes)
    for stage in (*trained, *((world.dmd,) if world.dmd.loop.steps else ())):
        loop.check(stage.loop)
    _check_shares(config)


def _check_shares(config: TrainingConfig) -> None:
    """ValueError where a stage of this run has batches that the processes cannot share evenly."""
    world = config.world
    painted = ("world.context.painted_share", world.context.painted_share)
    shares = dict.fromkeys(("teacher_forcing", "consistency", "ode"), painted)
    shares["dmd"] = ("world.dmd.other_actions_share", world.dmd.other_actions_share)
    for stage in (name for name in stages(config) if name not in ("collect", "export")):
        clips = loop.clips_at_once(getattr(world, stage).loop)
        if stage in shares:
            setting, share = shares[stage]
            processes.first_clips(share, clips, setting)
