"""Tiny stages of every kind, trained by however many processes start this program; see `test_scale.py`.

torchrun --nproc-per-node 2 tests/scale_stages.py FOLDER ddp fsdp      # one process a GPU: --device cuda
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from dot_game import dot_recording
from tiny import tiny_denoiser

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler, step_sigmas
from worldsim_training import dmd, loop, processes
from worldsim_training.bidirectional import Bidirectional
from worldsim_training.config import (
    BidirectionalConfig,
    ConsistencyConfig,
    ContextConfig,
    DmdConfig,
    LoopConfig,
    OdeConfig,
    TeacherForcingConfig,
)
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.ode import OdeDistillation
from worldsim_training.outcomes import Outcomes
from worldsim_training.placement import device_named
from worldsim_training.teacher_forcing import TeacherForcing

CLIP_FRAMES = 4
CONTEXT = ContextConfig(painted_share=0.5)
LOOP = LoopConfig(steps=2, batch=8, accumulate=2, learning_rate=3e-4, warmup=2, decay=0.0, checkpoint_every=2)
DMD = DmdConfig(
    loop=replace(LOOP, beta_1=0.0),
    context_frames=2,
    frames=CLIP_FRAMES - 2,
    critic_per_student=2,
    critic_learning_rate=3e-4,
    other_actions_share=0.5,
    paired_weight=0.5,
    consistency_weight=0.5,
    evaluate_every=1,
)


def network(seed: int, device: str) -> CausalDiT:
    """16 channels: with one a group, normalisation leaves biases no slope but rounding, which Adam blows up."""
    small = {"height": 16, "width": 24, "action_size": 4, "dim": 16, "depth": 1, "conv_widths": (16, 16)}
    return tiny_denoiser(seed, **small).to(device)


def teacher_forcing(device: str) -> TeacherForcing:
    return TeacherForcing(network(0, device), TeacherForcingConfig(), CONTEXT)


def bidirectional(device: str) -> Bidirectional:
    return Bidirectional(network(0, device), BidirectionalConfig(), CONTEXT)


def consistency(device: str) -> Consistency:
    return Consistency(network(0, device), ConsistencyConfig(intervals=6, mean_share=0.2), CONTEXT)


def ode(device: str) -> OdeDistillation:
    return OdeDistillation(network(0, device), OdeConfig(intervals=6), CONTEXT, shift=2.0)


def distribution_matching(device: str) -> dmd.Dmd:
    sigmas = step_sigmas(2, 2.0)
    stage = dmd.Dmd(
        network(0, device), dmd.CausalScorer(network(1, device), 2.0), sigmas, 2.0, DMD, consistency(device)
    )
    stage.best = loop.Best(stage.average, lambda average: {"score": -sum_of_squares(average)}, 1)
    return stage


def outcomes(device: str) -> Outcomes:
    torch.manual_seed(0)
    head = OutcomeHead(16, 24, (0.0, 1.0), width_conv=4).to(device)
    return Outcomes(head, network(0, device), FewStepSampler(step_sigmas(2, 2.0)))


MAKERS = (bidirectional, teacher_forcing, consistency, ode, distribution_matching, outcomes)


def sum_of_squares(network: torch.nn.Module) -> float:
    return sum(weight.square().sum().item() for weight in network.parameters())


def train(
    make: Callable, data: Path, folder: Path, scale: str, *, steps: int = LOOP.steps, device: str = "cpu"
) -> None:
    """Train a stage to its end or go on with it, in single precision: bf16 rounds each part of a batch by itself."""
    stage = make(device)
    folder.mkdir(parents=True, exist_ok=True)
    for each in (stage, *((stage.rival,) if make is distribution_matching else ())):
        object.__setattr__(each, "loss", exactly(each.loss, device))
    config = replace(DMD.loop if make is distribution_matching else LOOP, steps=steps)
    clips = ClipSampler(Recording.load(data, "train", progress=False), CLIP_FRAMES, config.batch, 5, device=device)
    fit = dmd.fit if make is distribution_matching else loop.fit
    assert fit(stage, clips, config, folder, settings={}, scale=scale)


def exactly(loss: Callable, device: str) -> Callable:
    """The loss without autocast."""

    def exact(clip, generator):
        with torch.autocast(torch.device(device).type, enabled=False):
            return loss(clip, generator)

    return exact


def fails_everywhere(data: Path, folder: Path, scale: str, device: str) -> bool:
    """Whether a loss that is not finite in the last process ends the training in every one, before the update."""

    def broken(device: str) -> TeacherForcing:
        stage = teacher_forcing(device)
        plain, last = stage.loss, processes.rank() == processes.count() - 1
        stage.loss = lambda clip, generator: plain(clip, generator) * (torch.nan if last else 1.0)
        return stage

    try:
        train(broken, data, folder, scale, device=device)
    except loop.TrainingFault:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("scales", nargs="*")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    processes.join()
    run(chosen.folder, chosen.scales, str(processes.own_device(device_named(chosen.device))))


def run(out: Path, scales: list[str], device: str) -> None:
    """Train every stage at every scale, to `<out>/<scale>/<stage>`, and say in which processes a fault was raised."""
    torch.backends.cudnn.allow_tf32 = False
    data = out / "data"
    processes.ask_first(lambda: dot_recording(data, frames=300) and None)
    for scale in scales:
        for make in MAKERS:
            train(make, data, out / scale / make.__name__, scale, device=device)
        train(distribution_matching, data, out / scale / distribution_matching.__name__, scale, steps=4, device=device)
        failed = float(fails_everywhere(data, out / scale / "fault", scale, device))
        write_mean(failed, out / scale / "failed.txt", device)


def write_mean(mine: float, path: Path, device: str) -> None:
    share = processes.mean(torch.tensor([mine], device=device)).item()
    processes.ask_first(lambda: path.write_text(str(share)))


if __name__ == "__main__":
    main()
