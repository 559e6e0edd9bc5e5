"""How fast a stage trains on this machine: `python -m worldsim_training.throughput stage=teacher_forcing`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from worldsim.bench import describe_machine
from worldsim.cli import one_line
from worldsim.engine import graphed
from worldsim.models.dit import CausalDiT
from worldsim.sampler import step_sigmas
from worldsim_envs.games import Game, game_class
from worldsim_training import config, dmd, kernel_times, loop
from worldsim_training.command_line import in_any_order
from worldsim_training.config import LoopConfig, ThroughputConfig, WorldConfig
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.flops import Meter
from worldsim_training.placement import compile_passes, device_named, has_compiler, placed
from worldsim_training.teacher_forcing import TeacherForcing

MATMUL_SIZES = {"cuda": (4096, 6144, 8192, 12288), "cpu": (256, 512)}
MATMUL_REPEATS = 20
PROFILED_UPDATES = 5

config.register()


@dataclass(frozen=True)
class Trial:
    """A stage to be timed: with its networks, all of one shape, and clips of so many frames."""

    stage: loop.Stage
    loop: LoopConfig
    networks: tuple[CausalDiT, ...]
    clip_frames: int
    rival: loop.Rival | None = None


def measure(settings: ThroughputConfig) -> dict[str, Any]:
    """Write the figures of one run to `out` and, where asked for, its profile beside them; returns the figures.

    Model FLOPs are those of the timed updates (`flops.Meter`), a share is theirs of a peak: of the best that square
    bf16 products reach here and now, and of the vendor's where it is given. ValueError for settings that cannot run.
    """
    _check(settings)
    device, game = device_named(settings.device), game_class(settings.world.game)
    products = {size: matmul_tflops(size, device) for size in MATMUL_SIZES[device.type]}
    trial = STAGES[settings.stage](settings.world, lambda: _fresh(settings.world, game, device))
    loop.check(trial.loop, f"world.{settings.stage}.loop")
    meter = Meter(trial.stage.student)
    _prepare(trial, meter, settings)
    clips = ClipSampler(_recording(settings, game, trial), trial.clip_frames, trial.loop.batch, 0, device=device)
    updates = loop.updates(trial.stage, clips, trial.loop, trial.rival)
    warmup_s = _timed(updates, settings.warmup, device)
    meter.flops = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _timed(updates, settings.updates, device)
    report = _setting(settings, game, trial, device) | {"warmup_s": warmup_s, "seconds": seconds}
    report |= _figures(settings, trial, meter.flops / seconds, seconds, products)
    if device.type == "cuda":
        report["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    _write(Path(settings.out), json.dumps(report, indent=1))
    if settings.profile:
        table = kernel_times.table(lambda: _timed(updates, PROFILED_UPDATES, device), PROFILED_UPDATES, device)
        _write(profile_path(settings), table)
    return report


def matmul_tflops(size: int, device: torch.device) -> float:
    """10^12 FLOPs a second of a bf16 product of two square matrices of normal numbers; zeros would run cooler."""
    a, b = torch.randn((2, size, size), device=device).bfloat16()

    def products() -> Iterator[None]:
        while True:
            torch.mm(a, b)
            yield

    running = products()
    _timed(running, MATMUL_REPEATS, device)
    return 2 * size**3 * MATMUL_REPEATS / _timed(running, MATMUL_REPEATS, device) / 1e12


def profile_path(settings: ThroughputConfig) -> Path:
    """Where the profile is written, beside the figures."""
    return Path(settings.out).with_suffix(".profile.txt")


def _teacher_forcing(world: WorldConfig, fresh: Callable[[], CausalDiT]) -> Trial:
    stage = TeacherForcing(fresh(), world.teacher_forcing, world.context)
    return Trial(stage, world.teacher_forcing.loop, (stage.student,), world.data.clip_frames)


def _consistency(world: WorldConfig, fresh: Callable[[], CausalDiT]) -> Trial:
    stage = Consistency(fresh(), world.consistency, world.context)
    return Trial(stage, world.consistency.loop, (stage.student, stage.average, stage.teacher), world.data.clip_frames)


def _dmd(world: WorldConfig, fresh: Callable[[], CausalDiT]) -> Trial:
    settings = world.dmd
    dmd.check(settings)
    scorer = dmd.SCORERS[settings.scoring](fresh(), settings.w)
    real = Consistency(fresh(), world.consistency, world.context) if settings.consistency_weight else None
    sigmas = step_sigmas(settings.student_steps, world.shift, single=world.single_sigma)
    stage = dmd.Dmd(fresh(), scorer, sigmas, world.shift, settings, real)
    networks = (stage.student, *scorer.networks, *((real.teacher, stage.average) if real else ()))
    timed = replace(settings.loop, steps=1)  # 0 would leave the stage out of a run
    return Trial(stage, timed, networks, settings.context_frames + settings.frames, stage.rival)


STAGES: dict[str, Callable[[WorldConfig, Callable[[], CausalDiT]], Trial]] = {
    "teacher_forcing": _teacher_forcing,
    "consistency": _consistency,
    "dmd": _dmd,
}


def _fresh(world: WorldConfig, game: type[Game], device: torch.device) -> CausalDiT:
    return placed(CausalDiT(game.height, game.width, game.actions.size, **vars(world.model)), device)


def _prepare(trial: Trial, meter: Meter, settings: ThroughputConfig) -> None:
    """Change the trial's networks: compiled and graphed as asked, then counted."""
    for network in trial.networks:
        if settings.compile:
            compile_passes(network)
        meter.watch(network)
    if isinstance(trial.stage, dmd.Dmd):
        student = trial.stage.student
        compiled = settings.compile and has_compiler()
        trial.stage.player = meter.player(graphed(student, compiled=compiled) if settings.graphs else student)


def _recording(settings: ThroughputConfig, game: type[Game], trial: Trial) -> Recording:
    if settings.recording is not None:
        recording = Recording.load(settings.recording, "train")
        if recording.spec != game.actions:
            raise ValueError(f"{settings.recording} has {recording.spec}; {game.name} has {game.actions}")
        return recording
    frames, rng = 8 * trial.clip_frames, np.random.default_rng(0)
    return Recording(
        frames=rng.integers(256, size=(frames, game.height, game.width, 3), dtype=np.uint8),
        actions=rng.integers(2, size=(frames, game.actions.size)).astype(np.float32),
        known=np.arange(frames) > 0,
        rewards=np.zeros(frames, np.float32),
        ended=np.zeros(frames, bool),
        offsets=np.array([0, frames]),
        policies=("noise",),
        spec=game.actions,
        meta={},
    )


def _timed(updates: Iterator[object], count: int, device: torch.device) -> float:
    """Seconds that so many more updates take."""
    _synchronise(device)
    started = time.perf_counter()
    for _ in islice(updates, count):
        pass
    _synchronise(device)
    return time.perf_counter() - started


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _setting(settings: ThroughputConfig, game: type[Game], trial: Trial, device: torch.device) -> dict[str, Any]:
    """What was timed, where."""
    return {
        "stage": settings.stage,
        **describe_machine(str(device)),
        "compile": settings.compile and has_compiler(),
        "graphs": settings.graphs and device.type == "cuda",
        "clips_from": settings.recording or "noise",
        "height": game.height,
        "width": game.width,
        "clip_frames": trial.clip_frames,
        "parameters": sum(weight.numel() for weight in trial.stage.student.parameters()),
        "model": asdict(settings.world.model),
        "context": asdict(settings.world.context),
        "loop": asdict(trial.loop),
        "batch": trial.loop.batch,
        "warmup": settings.warmup,
        "updates": settings.updates,
    }


def _figures(
    settings: ThroughputConfig, trial: Trial, flops_per_s: float, seconds: float, products: dict[int, float]
) -> dict[str, Any]:
    pace, tflops = settings.updates / seconds, flops_per_s / 1e12
    figures = {
        "updates_per_s": pace,
        "frames_per_s": pace * trial.loop.batch * trial.clip_frames,
        "flops_per_update": flops_per_s / pace,
        "tflops": tflops,
        "matmul_tflops": products,
        "share_of_matmul": tflops / max(products.values()),
    }
    if settings.peak_tflops:
        figures |= {"peak_tflops": settings.peak_tflops, "share_of_peak": tflops / settings.peak_tflops}
    return figures


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _check(settings: ThroughputConfig) -> None:
    if settings.stage not in STAGES:
        raise ValueError(f"stage {settings.stage!r} is not one that is timed; use one of {', '.join(STAGES)}")
    for key in ("warmup", "updates"):
        if getattr(settings, key) < 1:
            raise ValueError(f"{key} is {getattr(settings, key)}; use at least 1")
    if settings.peak_tflops is not None and settings.peak_tflops <= 0:
        raise ValueError(f"peak_tflops is {settings.peak_tflops}; give the device's, such as 989 for an H100 SXM")
    every = settings.world.dmd.critic_per_student
    if settings.stage == "dmd" and (settings.updates % every or settings.warmup % every):
        seen = f"warmup is {settings.warmup} and updates {settings.updates}"
        raise ValueError(f"{seen}, but the student moves at every {every}th update; use multiples of {every}")


@in_any_order
@hydra.main(config_path="conf", config_name="throughput", version_base="1.3")
def main(settings: DictConfig) -> None:
    """Measure and print the main figures; exits with one line where it cannot."""
    try:
        chosen = OmegaConf.to_object(settings)
        report = measure(chosen)
    except (ValueError, OSError, loop.TrainingFault, OmegaConfBaseException) as error:
        raise SystemExit(f"throughput: {one_line(error)}") from None
    except torch.OutOfMemoryError:
        raise SystemExit("throughput: does not fit in the GPU's memory; lower the stage's loop.batch") from None
    print(
        f"{chosen.stage}: {report['updates_per_s']:.2f} updates/s, {report['frames_per_s']:.0f} frames/s, "
        f"{report['tflops']:.1f} TFLOP/s, {report['share_of_matmul']:.1%} of the best product here; {chosen.out}"
    )


if __name__ == "__main__":
    main()
