"""The optimisation loop that every stage shares: update, average, checkpoint, resume."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from worldsim_training import checkpoint
from worldsim_training.config import LoopConfig
from worldsim_training.dataset import Clip, ClipSampler

CHECKPOINT = "checkpoint.safetensors"


class Stage(Protocol):
    """What a stage brings to the loop."""

    name: str
    student: nn.Module
    """The network that is trained."""
    average: nn.Module
    """Its exponential moving average: the stage's result, in consistency distillation also the target."""

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        """Scalar loss of one batch; all randomness from the generator."""
        ...


class TrainingFault(RuntimeError):
    """A loss or gradient that is not finite; raised before the optimiser step."""


def fit(
    stage: Stage,
    clips: ClipSampler,
    config: LoopConfig,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    stop_after_s: float = 0.0,
) -> bool:
    """Train the stage's networks in place until `config` says that it is done; resumes from the folder's checkpoint.

    Returns False where `stop_after_s` seconds were up first; the same call goes on from the saved checkpoint, to the
    same bits on a CPU as without the stop. `settings`, data for JSON, go into the checkpoint's notes. Raises
    TrainingFault on a loss or gradient that is not finite, ValueError where the checkpoint is damaged or of something
    else.
    """
    device = next(stage.student.parameters()).device
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        stage.student.parameters(),
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        weight_decay=config.weight_decay,
        fused=fused,
    )
    generator = torch.Generator(device).manual_seed(config.seed)
    path = folder / CHECKPOINT
    step, before_s = _resume(path, stage, optimizer, clips, generator) if path.is_file() else (0, 0.0)
    started, losses = time.monotonic(), []
    clock = None  # starts after the first update, which may compile
    with tqdm(total=config.steps, initial=step, desc=stage.name, unit="update", mininterval=2.0) as bar:
        done = progress(step, before_s, config)
        while done < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, done, config)
            losses.append(_update(stage, clips.sample(), optimizer, config, generator, step, path))
            step, clock = step + 1, clock or time.monotonic()
            bar.update()
            trained_s = before_s + _since(clock)
            done = progress(step, trained_s, config)
            out_of_time = bool(stop_after_s) and _since(started) > stop_after_s
            if step % config.checkpoint_every == 0 or done >= 1.0 or out_of_time:
                mean = torch.stack(losses).mean().item()
                bar.set_postfix(loss=f"{mean:.3g}")
                losses.clear()
                notes = {"stage": stage.name, "step": step, "seconds": trained_s, "settings": settings}
                _save(path, stage, optimizer, clips, generator, notes)
                _log(folder, {"step": step, "loss": mean, "seconds": round(trained_s, 1)})
            if out_of_time and done < 1.0:
                return False
    return True


def progress(step: int, trained_s: float, config: LoopConfig) -> float:
    """Share of the stage that is done, at least 1 at its end: by updates or, where a budget is set, by seconds."""
    by_time = trained_s / config.seconds if config.seconds else 0.0
    return max(step / config.steps, by_time)


def learning_rate(step: int, done: float, config: LoopConfig) -> float:
    """Linear warm-up, a constant stretch, then a linear fall to 0 over the last `decay` share of the stage."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (1.0 - done) / config.decay) if config.decay else 1.0
    return config.learning_rate * min(rise, fall)


def average_of(network: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode, to become the moving average. Copy before compiling: a compiled method stays
    bound to the network it was taken from."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def _update(
    stage: Stage,
    clip: Clip,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
    generator: torch.Generator,
    step: int,
    path: Path,
) -> Tensor:
    device_type = clip.frames.device.type
    with torch.autocast(device_type, dtype=torch.bfloat16):
        loss = stage.loss(clip, generator)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(stage.student.parameters(), config.clip_norm)
    if not torch.isfinite(torch.stack((loss.detach(), norm))).all():
        what = "loss" if not torch.isfinite(loss) else "gradient"
        good = f"the last good checkpoint is {path}" if path.is_file() else "there is no checkpoint yet"
        raise TrainingFault(f"{stage.name}: {what} is not finite at step {step}; {good}")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        pairs = zip(stage.average.parameters(), stage.student.parameters(), strict=True)
        average, student = (list(group) for group in zip(*pairs, strict=True))
        decay = min(config.ema, (1 + step) / (10 + step))  # the first weights are soon forgotten
        torch._foreach_lerp_(average, student, 1.0 - decay)
    return loss.detach()


def _save(
    path: Path,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    clips: ClipSampler,
    generator: torch.Generator,
    notes: dict[str, Any],
) -> None:
    tensors = {
        **checkpoint.pack("student", stage.student.state_dict()),
        **checkpoint.pack("average", stage.average.state_dict()),
        **checkpoint.pack("adam", checkpoint.pack_adam(stage.student, optimizer)),
        "generator": generator.get_state(),
    }
    checkpoint.save(path, tensors, {**notes, "device": generator.device.type, "clips": clips.state_dict()})


def _resume(
    path: Path, stage: Stage, optimizer: torch.optim.Optimizer, clips: ClipSampler, generator: torch.Generator
) -> tuple[int, float]:
    tensors, notes = checkpoint.load(path)
    if notes["stage"] != stage.name:
        raise ValueError(f"{path} belongs to stage {notes['stage']!r}, not {stage.name!r}; give another folder")
    try:
        stage.student.load_state_dict(checkpoint.unpack("student", tensors))
        stage.average.load_state_dict(checkpoint.unpack("average", tensors))
    except (RuntimeError, KeyError):
        raise ValueError(f"{path} is of a network of another shape; delete it or give another folder") from None
    if notes["device"] != generator.device.type:
        was, now = notes["device"], generator.device.type
        raise ValueError(f"{path} was trained on {was}, whose random numbers {now} cannot continue; set device={was}")
    checkpoint.unpack_adam(stage.student, optimizer, checkpoint.unpack("adam", tensors))
    generator.set_state(tensors["generator"])
    clips.load_state_dict(notes["clips"])
    return notes["step"], notes["seconds"]


def _since(moment: float | None) -> float:
    return 0.0 if moment is None else time.monotonic() - moment


def _log(folder: Path, row: dict) -> None:
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def read_log(folder: Path) -> Iterator[dict]:
    """The rows that `fit` logged: step, mean loss since the row before, seconds of training up to here."""
    with open(folder / "log.jsonl") as file:
        yield from (json.loads(line) for line in file if line.endswith("\n"))  # a kill may tear the last one
