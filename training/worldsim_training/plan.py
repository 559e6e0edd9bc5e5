"""What a run takes in turn, and whether its settings can be run at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.sampler import NOMINAL_STEPS, step_sigmas
from worldsim_envs.games import game_class
from worldsim_training import consistency, dmd, gates, loop, parallel, processes, ranges
from worldsim_training.config import TrainingConfig, ValidationConfig, WorldConfig
from worldsim_training.stage_folder import NETWORK, WEIGHTS

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
    """ValueError where a setting is not one that the stages can run with, OSError where it names a head that is not
    there."""
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
    if not 1 <= world.outcomes.lag < world.data.clip_frames:
        seen = f"world.outcomes.lag is {world.outcomes.lag}"
        raise ValueError(f"{seen}; a head looks back 1 step or more, below clip_frames, {world.data.clip_frames}")
    if world.default_steps not in NOMINAL_STEPS:
        raise ValueError(f"world.default_steps is {world.default_steps}; use 1, 2 or 4")
    if world.release not in RELEASES:
        raise ValueError(f"world.release is {world.release!r}; use one of {', '.join(RELEASES)}")
    if world.release == "dmd" and not world.dmd.loop.steps and not (Path(config.out) / "dmd" / NETWORK).is_dir():
        raise ValueError("world.release is dmd, but world.dmd.loop.steps is 0; set them to train that stage, too")
    if config.scale not in parallel.SCALES:
        raise ValueError(f"scale is {config.scale!r}; use one of {', '.join(parallel.SCALES)}")
    ranges.check_world(world)
    _check_memory(world)
    consistency.check(world.consistency)
    dmd.check(world.dmd)
    gates.check(config.gates)
    trained = ("bidirectional", "teacher_forcing", "consistency", "ode", "outcomes")
    for stage in (*trained, *(("dmd",) if world.dmd.loop.steps else ())):
        loop.check(getattr(world, stage).loop, f"world.{stage}.loop")
    _check_shares(config)
    _check_init(config)
    players = world.data.policies or game_class(world.game).policies()
    if unknown := [policy for policy in world.start_policies if policy not in players]:
        raise ValueError(f"world.start_policies has {', '.join(unknown)}; this world's are {', '.join(players)}")


def check_recording(config: TrainingConfig, meta: Mapping[str, Any]) -> None:
    """ValueError where a recording, whose meta.json this is, is not finished, or no episode of it is as long as the
    clips that a stage of this run learns from or is scored on. Scoring makes do with 2 frames after the network's
    window."""
    world, run = config.world, stages(config)
    if not meta["complete"]:
        raise ValueError(f"the recording in {world.data.folder} is not finished; run stage=collect to its end first")
    needed = {("validation", "world.model.window and 2 frames more"): world.model.window + 2}
    if {*run} - {"collect", "dmd", "export"}:
        needed["train", "world.data.clip_frames"] = world.data.clip_frames
    if "dmd" in run:
        asked = world.dmd.context_frames + world.dmd.frames
        needed["train", "world.dmd.context_frames and frames"] = asked
    for (split, setting), frames in needed.items():
        lengths = [each["steps"] + 1 for each in meta["episodes"] if each["split"] == split]
        if not lengths:
            raise ValueError(
                f"{world.data.folder} has no {split} episode; record the game, or play three rounds or more"
            )
        if (longest := max(lengths)) < frames:
            seen = f"the longest {split} episode in {world.data.folder} has {longest} frames"
            raise ValueError(f"{seen}; {setting} are {frames}: make them fewer, or record longer episodes")


def head_form(world: WorldConfig) -> dict[str, int]:
    """Arguments of this world's outcome head but the rewards, which its recording tells."""
    game, config = game_class(world.game), world.outcomes
    return {"height": game.height, "width": game.width, "width_conv": config.width, "lag": config.lag}


def check_head(folder: Path, world: WorldConfig) -> None:
    """FileNotFoundError where this folder holds no network, ValueError where it is no outcome head of this form."""
    config = _config_of(folder, OutcomeHead, "world.outcomes.init", "a head")
    check_same(config, head_form(world), f"the head in {folder}", "this world")


def check_network(folder: Path, world: WorldConfig) -> None:
    """FileNotFoundError where this folder holds no network, ValueError where it is none of this world's form."""
    inside = folder / "denoiser"
    example = f"a network, such as {inside}" if inside.is_dir() else "a network"
    check_form(_config_of(folder, CausalDiT, "world.init", example), folder, world)


def check_form(config: Mapping[str, Any], folder: Path, world: WorldConfig) -> None:
    """ValueError where the configuration of the network in a folder is not that of this world's."""
    game = game_class(world.game)
    if (seen := config["action_size"]) != game.actions.size:
        raise ValueError(f"{folder} takes {seen} action channels; {game.name} has {game.actions}")
    asked = {"height": game.height, "width": game.width, **vars(world.model)}
    check_same(config, asked, f"the network in {folder}", "this world")


def _config_of(folder: Path, kind: type[ModelMixin], setting: str, what: str) -> Mapping[str, Any]:
    """The configuration of the network in a folder that a setting names, with the defaults of what it leaves out."""
    for name in (kind.config_name, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}; let {setting} be the folder of {what}")
    config = kind.load_config(folder)
    if (seen := config.get("_class_name")) != kind.__name__:
        raise ValueError(f"{folder} holds a network of class {seen}; let {setting} be the folder of {what}")
    with torch.device("meta"):  # without its weights, and without a random number
        return kind.from_config(config).config


def check_same(there: Mapping[str, Any], asked: Mapping[str, Any], what: str, who: str) -> None:
    """ValueError where a network's configuration is not the one asked for."""
    for key, value in asked.items():
        if there[key] != (list(value) if isinstance(there[key], list) else value):
            raise ValueError(f"{what} has {key} {there[key]}; {who} asks for {value}")


def _check_init(config: TrainingConfig) -> None:
    """The errors of `check_head` or `check_network` where a stage is to go on from such a folder; once it has, that may
    be gone."""
    world = config.world
    checks = {"teacher_forcing": (world.init, check_network), "outcomes": (world.outcomes.init, check_head)}
    for stage, (init, check_folder) in checks.items():
        if init in (None, "bidirectional") or stage not in stages(config):
            continue
        if Path(init).is_dir() or not (Path(config.out) / stage / NETWORK).is_dir():
            check_folder(Path(init), world)


def _check_memory(world: WorldConfig) -> None:
    """ValueError where the last calls that are kept in play are not those that training keeps."""
    context = world.context
    (low, high), last = context.kept_sigmas, context.painted_sigmas[-1]
    if not 0 < low <= high < 1:
        raise ValueError(f"world.context.kept_sigmas are {low} to {high}; use levels above 0 and below 1")
    if context.kept_share and context.painted_share and not low <= last <= high:
        raise ValueError(f"world.context.painted_sigmas end at {last}; end them within kept_sigmas, {low} to {high}")
    if not world.kept_sigma:
        return
    if not context.kept_share:
        raise ValueError("world.kept_sigma needs a network that has learnt it; set world.context.kept_share above 0")
    if world.dmd.loop.steps:
        raise ValueError("world.dmd trains a memory of committed frames; leave it or world.kept_sigma out")
    ends = [step_sigmas(steps, world.shift, single=world.single_sigma)[-1] for steps in NOMINAL_STEPS]
    kept = [sigma for sigma in ends if sigma <= world.kept_sigma]
    if not kept or not low <= min(kept) <= max(kept) <= high:
        seen = f"world.kept_sigma={world.kept_sigma} keeps {len(kept)} of the last calls, at {ends}"
        raise ValueError(f"{seen}; let it keep some, all within world.context.kept_sigmas, {low} to {high}")


def _check_shares(config: TrainingConfig) -> None:
    """ValueError where a stage of this run has batches that the processes cannot share evenly."""
    for stage in (name for name in stages(config) if name not in ("collect", "export")):
        clips = loop.clips_at_once(getattr(config.world, stage).loop)
        if stage == "dmd":
            processes.first_clips(config.world.dmd.other_actions_share, clips, "world.dmd.other_actions_share")
