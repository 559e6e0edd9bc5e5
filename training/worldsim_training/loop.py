"""The optimisation loop that every stage shares: update, average, checkpoint, resume."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from worldsim.models.dit import CausalDiT
from worldsim_training import checkpoint, parallel, processes, ranges
from worldsim_training.config import LoopConfig
from worldsim_training.dataset import Clip, ClipSampler
from worldsim_training.journal import Journal, ProgressBar

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


@dataclass(frozen=True)
class Rival:
    """A second network, trained at every step; the student then moves, before it, at every `per_student`-th only."""

    network: nn.Module
    loss: Callable[[Clip, torch.Generator], Tensor]
    learning_rate: float
    per_student: int


class Best:
    """The best of the averages that a stage passes through, the one it begins with included.

    measure: the scores of a network by name, of which the highest `score` wins; it draws from no generator of the run.
    every: updates of the student between two measurements. patience: measurements without a better score that end the
    stage, 0: never. Make it before the network is compiled.
    """

    def __init__(
        self, network: nn.Module, measure: Callable[[nn.Module], dict[str, float]], every: int, patience: int = 0
    ) -> None:
        self.network = average_of(network)
        self.measure = measure
        self.every, self.patience = every, patience
        self.score = -math.inf
        self.since = 0
        """Measurements since the best."""

    @property
    def is_past(self) -> bool:
        """Whether waiting for a better one is over."""
        return has_waited(self.since, self.patience)

    def consider(self, average: nn.Module) -> dict[str, float]:
        """Scores of the average, which becomes the best where none before it had as high a one."""
        scores = processes.ask_first(lambda: self.measure(average))
        self.since += 1
        if scores["score"] > self.score:
            self.network.load_state_dict(average.state_dict())
            self.score, self.since = scores["score"], 0
        return scores


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
    rival: Rival | None = None,
    best: Best | None = None,
    scale: str = "ddp",
) -> bool:
    """Train the stage's networks in place until `config` says that it is done; resumes from the folder's checkpoint.

    Returns False where `stop_after_s` seconds were up first; the same call goes on from the saved checkpoint, to the
    same bits on a CPU as without the stop. `settings`, data for JSON, go into the checkpoint's notes. Steps and rates
    are counted in updates of the rival where there is one. Several processes train together, each on its part of every
    batch, as `scale` says, ddp or fsdp; the first of them measures, writes and holds the clock.
    Raises TrainingFault, in every process, on a loss or gradient that is not finite, ValueError where the checkpoint is
    damaged or of something else.
    """
    run = _Run(stage, clips, config, folder / CHECKPOINT, rival, best, scale)
    step, before_s = run.begin()
    started = processes.ask_first(time.monotonic)
    clock = None  # starts after the first update, which may compile
    done = 1.0 if best and best.is_past else progress(step, before_s, config)
    if done >= 1.0:
        return True
    with Journal(folder, step) as journal, ProgressBar(stage.name, config, done) as bar:
        while done < 1.0:
            run.update(step, done)
            now = processes.ask_first(time.monotonic)
            step, clock = step + 1, clock or now
            trained_s = before_s + now - clock
            done = progress(step, trained_s, config)
            bar.reach(done)
            run.review(step, is_last=done >= 1.0)
            done = 1.0 if best and best.is_past else done
            out_of_time = bool(stop_after_s) and now - started > stop_after_s
            if step % config.checkpoint_every == 0 or done >= 1.0 or out_of_time:
                row = run.report(step)
                bar.tell(row)
                run.save({"stage": stage.name, "step": step, "seconds": trained_s, "settings": settings})
                journal.write({**row, "seconds": round(trained_s, 1)})
            if out_of_time and done < 1.0:
                return False
    return True


def updates(stage: Stage, clips: ClipSampler, config: LoopConfig, rival: Rival | None = None) -> Iterator[int]:
    """Train the stage's networks in place without a folder, for ever; yields the count after each update of `fit`."""
    run = _Run(stage, clips, config, Path(CHECKPOINT), rival, None, "ddp")
    for step in itertools.count():
        run.update(step, 0.0)
        yield step + 1


def progress(step: int, trained_s: float, config: LoopConfig) -> float:
    """Share of the stage that is done, at least 1 at its end: by updates or, where a budget is set, by seconds."""
    by_time = trained_s / config.seconds if config.seconds else 0.0
    return max(step / config.steps, by_time)


def has_waited(since: int, patience: int) -> bool:
    """Whether so many measurements since the best end a stage of that patience, which is 0 where none do."""
    return 0 < patience <= since


def learning_rate(step: int, done: float, config: LoopConfig) -> float:
    """Linear warm-up, a constant stretch, then a linear fall to 0 over the last `decay` share of the stage."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (1.0 - done) / config.decay) if config.decay else 1.0
    return config.learning_rate * min(rise, fall)


def check(config: LoopConfig, place: str) -> None:
    """ValueError where a setting is not one that a stage can train with. place: `world.dmd.loop`, as it is typed."""
    ranges.check(config, place, ranges.LOOP)
    if config.batch % config.accumulate:
        seen = f"{place}.batch={config.batch}, which does not split into {config.accumulate} micro-batches"
        raise ValueError(f"{seen}; let {place}.accumulate divide it")


def clips_at_once(config: LoopConfig) -> int:
    """Clips of a micro-batch that are this process's. ValueError where the processes cannot share it evenly."""
    clips, sharing = config.batch // config.accumulate, processes.count()
    if clips % sharing:
        seen = f"loop.batch={config.batch} in {config.accumulate} micro-batches makes {clips} clips at once"
        raise ValueError(f"{seen}, which {sharing} processes cannot share evenly; let their number divide it")
    return clips // sharing


def average_of(network: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode, to become the moving average. Copy before compiling: a compiled method stays
    bound to the network it was taken from."""
    return copy.deepcopy(network).eval().requires_grad_(False)


class _Learner:
    """A network that is trained, with its optimiser and its losses since the last report.

    Between updates the network is whole in every process, whatever the scale.
    """

    def __init__(self, network: nn.Module, loss: parallel.Loss, config: LoopConfig, scale: str) -> None:
        self.network, self.config = network, config
        if config.checkpoint_activations:
            _checkpoint_activations(network)
        self.objective = parallel.Objective(network, loss)
        if processes.count() > 1:
            self.objective = parallel.SCALES[scale](self.objective)
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=(config.beta_1, config.beta_2),
            weight_decay=config.weight_decay,
            fused=next(network.parameters()).device.type == "cuda",
        )
        self.losses: list[Tensor] = []
        parallel.gather(self.objective)

    def update(self, clip: Clip, generator: torch.Generator, rate: float) -> str | None:
        """Change the network by one update at that learning rate; or change nothing and name what is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = processes.mean(self._slope(clip, generator))
        norm = parallel.whole(nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm))
        if not torch.isfinite(torch.stack((loss.float(), norm))).all():
            return "gradient" if torch.isfinite(loss) else "loss"
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        parallel.gather(self.objective)
        self.losses.append(loss)
        return None

    def state(self, name: str) -> dict[str, Tensor]:
        """The network and Adam's moments as a checkpoint holds them. Every process has to ask."""
        with parallel.in_shards(self.objective):
            weights = {key: parallel.whole(value) for key, value in self.network.state_dict().items()}
            adam = checkpoint.pack_adam(self.network, self.optimizer)
        return checkpoint.pack(name, weights) | checkpoint.pack(_adam(name), adam)

    def load_state(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave. RuntimeError or KeyError where that is of another network."""
        weights = checkpoint.unpack(name, tensors)
        with parallel.in_shards(self.objective):
            there = self.network.state_dict()
            self.network.load_state_dict({key: parallel.like(value, there[key]) for key, value in weights.items()})
            checkpoint.unpack_adam(self.network, self.optimizer, checkpoint.unpack(_adam(name), tensors))

    def _slope(self, clip: Clip, generator: torch.Generator) -> Tensor:
        """Mean loss of this process's part of the micro-batches, each with noise of its own; its gradient, by then that
        of all processes, is added to the parameters'."""
        losses = []
        for part in clip.split(self.config.accumulate):
            part = part.every(processes.count(), processes.rank())
            with torch.autocast(clip.frames.device.type, dtype=torch.bfloat16):
                loss = self.objective(part, generator) / self.config.accumulate
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()


class _Run:
    """Everything of a stage that changes while it is trained."""

    def __init__(
        self,
        stage: Stage,
        clips: ClipSampler,
        config: LoopConfig,
        path: Path,
        rival: Rival | None,
        best: Best | None,
        scale: str,
    ) -> None:
        self.stage, self.clips, self.config, self.path, self.best = stage, clips, config, path, best
        self.per_student = rival.per_student if rival else 1
        self.learners = {"student": _Learner(stage.student, stage.loss, config, scale)}
        if rival:
            rival_config = replace(config, learning_rate=rival.learning_rate)
            self.learners["rival"] = _Learner(rival.network, rival.loss, rival_config, scale)
        self.generator = torch.Generator(next(stage.student.parameters()).device).manual_seed(config.seed)
        self.reviews: list[dict[str, float]] = []
        self.rate = 0.0

    def begin(self) -> tuple[int, float]:
        """Step and seconds to go on from: those of the checkpoint, where there is one."""
        if self.path.is_file():
            return self._resume()
        self.review(0)
        return 0, 0.0

    def update(self, step: int, done: float) -> None:
        """Change the networks whose turn it is, the student against the rival of before."""
        moves = step % self.per_student == 0
        self.rate = learning_rate(step, done, self.config)
        for name, learner in self.learners.items():
            if moves or name != "student":
                rate = learning_rate(step, done, learner.config)
                if what := learner.update(self.clips.sample(), self.generator, rate):
                    self._fault("" if name == "student" else f"{name}'s ", what, step)
        if moves:
            self._average(step // self.per_student)

    def review(self, step: int, *, is_last: bool = False) -> None:
        """Measure the average after `step` steps, where its turn has come."""
        if self.best is None:
            return
        moved = step % self.per_student == 1 % self.per_student
        if is_last or step == 0 or (moved and self._student_updates(step) % self.best.every == 0):
            scores = self.best.consider(self.stage.average)
            self.reviews.append({"step": step, "student_updates": self._student_updates(step), **scores})

    def report(self, step: int) -> dict[str, Any]:
        """Row of the log, of what came since the row before."""
        row: dict[str, Any] = {"step": step, "learning_rate": self.rate}
        if "rival" in self.learners:
            row["student_updates"] = self._student_updates(step)
        for name, learner in self.learners.items():
            if learner.losses:
                row["loss" if name == "student" else f"{name}_loss"] = torch.stack(learner.losses).mean().item()
                learner.losses.clear()
        if self.reviews:
            row["reviews"], self.reviews = self.reviews, []
        return row

    def save(self, notes: dict[str, Any]) -> None:
        """Write the checkpoint, the same by however many processes."""
        tensors = checkpoint.pack("average", self.stage.average.state_dict())
        tensors["generator"] = self.generator.get_state()
        for name, learner in self.learners.items():
            tensors |= learner.state(name)
        notes = {**notes, "device": self.generator.device.type, "clips": self.clips.state_dict()}
        if self.best:
            tensors |= checkpoint.pack("best", self.best.network.state_dict())
            notes |= {"best_score": self.best.score, "since_best": self.best.since}
        processes.ask_first(lambda: checkpoint.save(self.path, tensors, notes))

    def _average(self, update: int) -> None:
        pairs = zip(self.stage.average.parameters(), self.stage.student.parameters(), strict=True)
        average, student = (list(group) for group in zip(*pairs, strict=True))
        decay = min(self.config.ema, (1 + update) / (10 + update))  # the first weights are soon forgotten
        with torch.no_grad():
            torch._foreach_lerp_(average, student, 1.0 - decay)

    def _student_updates(self, step: int) -> int:
        return -(-step // self.per_student)

    def _fault(self, whose: str, what: str, step: int) -> None:
        good = f"the last good checkpoint is {self.path}" if self.path.is_file() else "there is no checkpoint yet"
        raise TrainingFault(f"{self.stage.name}: {whose}{what} is not finite at step {step}; {good}")

    def _resume(self) -> tuple[int, float]:
        tensors, notes = checkpoint.load(self.path)
        if notes["stage"] != self.stage.name:
            there = f"{self.path} belongs to stage {notes['stage']!r}, not {self.stage.name!r}"
            raise ValueError(f"{there}; give another folder")
        networks = {"average": self.stage.average} | ({"best": self.best.network} if self.best else {})
        try:
            for name, network in networks.items():
                network.load_state_dict(checkpoint.unpack(name, tensors))
            for name, learner in self.learners.items():
                learner.load_state(name, tensors)
        except (RuntimeError, KeyError):
            there = f"{self.path} is of a network of another shape"
            raise ValueError(f"{there}; delete it or give another folder") from None
        if notes["device"] != self.generator.device.type:
            was, now = notes["device"], self.generator.device.type
            there = f"{self.path} was trained on {was}, whose random numbers {now} cannot continue"
            raise ValueError(f"{there}; set device={was}")
        if self.best:
            self.best.score, self.best.since = notes["best_score"], notes.get("since_best", 0)
        self.generator.set_state(tensors["generator"])
        self.clips.load_state_dict(notes["clips"])
        return notes["step"], notes["seconds"]


def _checkpoint_activations(network: nn.Module) -> None:
    """Change the network, nothing of which is saved."""
    if not isinstance(network, CausalDiT):
        kind = type(network).__name__
        raise ValueError(f"loop.checkpoint_activations is true, but {kind} has no transformer blocks; set it to false")
    network.enable_gradient_checkpointing()


def _adam(name: str) -> str:
    """Where a network's Adam moments stand in the checkpoint."""
    return "adam" if name == "student" else f"adam_{name}"
