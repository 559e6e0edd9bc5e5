"""The ablation of the stages: each way of distillation, then distribution matching at each number of steps, per seed.

    python -m worldsim_training.ablation ablation=minigrid

For each seed the stages before distribution matching are trained once. Its cells share them: one run of stage `dmd` for
each distillation, scoring and number of steps. `ablation_table` reads the results from the folders.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from worldsim.cli import one_line
from worldsim.sampler import NOMINAL_STEPS
from worldsim_training import ablation_table, dmd
from worldsim_training.ablation_table import COST, FAILURES, Cell, add_cost, cells, seed_folder, stages
from worldsim_training.command_line import in_any_order
from worldsim_training.config import AblationConfig, TrainingConfig, register
from worldsim_training.dataset import Recording
from worldsim_training.episodes import write_whole
from worldsim_training.gates import GateFailed
from worldsim_training.loop import TrainingFault
from worldsim_training.pipeline import Pipeline
from worldsim_training.plan import DISTILLATIONS

register()

SEEDED = ("bidirectional", "teacher_forcing", "consistency", "ode", "dmd")
OUTPUT = "output.txt"
"""In the folder of a seed that has a process of its own: what it would have shown."""
POLL_S = 2.0


@dataclass(frozen=True)
class Task:
    """One stage of one seed; `needs` are the tasks whose networks it begins from."""

    name: str
    stage: str
    settings: TrainingConfig
    needs: frozenset[str]

    @property
    def folder(self) -> Path:
        """Where the stage writes."""
        return Path(self.settings.out) / self.stage


def run(config: AblationConfig) -> bool:
    """Train all seeds and write the tables; False where `stop_after_s` was up before the end. The same call goes on.

    A fault or a failed gate is the result of its task, and of the tasks that need its network; the others go on.
    """
    deadline = time.time() + config.stop_after_s if config.stop_after_s else 0.0
    check(config)
    Pipeline(_training(config)).collect()
    aside = config.workers > 1 and len(config.seeds) > 1
    done = _train_together(config, deadline) if aside else [train_seed(config, s, deadline) for s in config.seeds]
    ablation_table.write(config)
    return all(done)


def check(config: AblationConfig) -> None:
    """ValueError where a setting is not one that an ablation can run with."""
    if config.stage:
        raise ValueError(f"stage is {config.stage!r}, but an ablation trains all that it compares; leave it out")
    if not config.world.dmd.loop.steps:
        raise ValueError("world.dmd.loop.steps is 0, which leaves nothing to compare; set it to at least 1")
    if config.workers < 1:
        raise ValueError(f"workers is {config.workers}; use at least 1")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds is {list(config.seeds)}; give at least one, none twice")
    for key, known in (("distillations", DISTILLATIONS), ("scorings", dmd.SCORERS), ("student_steps", NOMINAL_STEPS)):
        chosen = vars(config)[key]
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= known.keys():
            raise ValueError(f"{key} is {list(chosen)}; give some of {', '.join(map(str, known))}, none twice")


def train_seed(config: AblationConfig, seed: int, deadline: float) -> bool:
    """All tasks of a seed in turn; False where the deadline, as of `time.time()`, 0 for none, came before the end."""
    failures: dict[str, str] = {}
    recordings: dict[str, Recording] = {}
    for task in tasks(config, seed):
        if lost := sorted(task.needs & failures.keys()):
            failures[task.name] = f"{' and '.join(lost)} failed before it"
        else:
            try:
                if not _train(task, recordings, deadline):
                    return False
            except (TrainingFault, GateFailed, torch.OutOfMemoryError) as error:
                failures[task.name] = one_line(error)
        write_whole(seed_folder(config, seed) / FAILURES, json.dumps(failures, indent=2).encode())
    return True


def tasks(config: AblationConfig, seed: int) -> Iterator[Task]:
    """What a seed trains, each task after those that it needs."""
    folder = seed_folder(config, seed)
    base = replace(seeded(_training(config), seed), out=str(folder))
    first = {"bidirectional"} if base.world.init == "bidirectional" else set()
    needs = {"bidirectional": set(), "teacher_forcing": first}
    for stage in stages(config):
        yield Task(stage, stage, base, frozenset(needs.get(stage, {"teacher_forcing"})))
    for cell in cells(config, seed):
        if cell.scoring:
            yield _matching(base, folder, cell)


def seeded(settings: TrainingConfig, seed: int) -> TrainingConfig:
    """The settings with that seed for the loop of every stage; teacher forcing's is that of fresh weights, too."""
    of_stages = {name: vars(settings.world)[name] for name in SEEDED}
    changed = {name: replace(stage, loop=replace(stage.loop, seed=seed)) for name, stage in of_stages.items()}
    return replace(settings, world=replace(settings.world, **changed))


def _matching(base: TrainingConfig, folder: Path, cell: Cell) -> Task:
    matching = replace(base.world.dmd, scoring=cell.scoring, student_steps=cell.student_steps)
    world = replace(base.world, distillation=cell.distillation, dmd=matching)
    needs = {"teacher_forcing", DISTILLATIONS[cell.distillation], dmd.TEACHERS[cell.scoring]}
    return Task(cell.name, "dmd", replace(base, world=world, out=str(folder / cell.name)), frozenset(needs))


def _training(config: AblationConfig) -> TrainingConfig:
    """The settings that all runs have in common."""
    return TrainingConfig(**{each.name: vars(config)[each.name] for each in fields(TrainingConfig)})


def _train(task: Task, recordings: dict[str, Recording], deadline: float) -> bool:
    """Train a task to its end, or pass it by where that is done; False where its time is up first."""
    started = time.time()
    _link_stages(task)
    if task.settings.compile:
        torch.compiler.reset()  # it would give up on a function that it has met with too many networks
        gc.collect()  # a compiled network refers to itself
    pipeline = Pipeline(replace(task.settings, stop_after_s=max(deadline - started, 1e-3) if deadline else 0.0))
    pipeline.recordings = recordings
    try:
        return getattr(pipeline, task.stage)()
    finally:
        if pipeline.has_trained:
            add_cost(task.folder / COST, time.time() - started, pipeline.device)


def _link_stages(task: Task) -> None:
    """Show a cell, which has a folder inside the seed's, the earlier stages that it needs."""
    out = Path(task.settings.out)
    out.mkdir(parents=True, exist_ok=True)
    for stage in sorted(task.needs) if out.name == task.name else ():
        if not (out / stage).is_symlink():
            (out / stage).symlink_to(Path("..", stage), target_is_directory=True)


def _train_together(config: AblationConfig, deadline: float) -> list[bool]:
    """`train_seed` of all seeds, dealt out to `workers` processes, each with a GPU of its own if there are enough."""
    total, gpus = len(config.seeds) * sum(1 for _ in tasks(config, config.seeds[0])), visible_gpus()
    with ExitStack() as stack, tqdm(total=total, desc="ablation") as bar:
        workers = [
            stack.enter_context(worker_seeing(gpus[number % len(gpus)] if gpus else ""))
            for number in range(min(config.workers, len(config.seeds)))
        ]
        asked = [
            workers[number % len(workers)].submit(_train_aside, config, seed, deadline)
            for number, seed in enumerate(config.seeds)
        ]
        left: set[futures.Future[bool]] = set(asked)
        while left:
            _, left = futures.wait(left, POLL_S)
            bar.update(ablation_table.finished(config) - bar.n)
        return [each.result() for each in asked]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def worker_seeing(gpu: str) -> futures.ProcessPoolExecutor:
    """An executor whose one process, which runs when this returns, sees that GPU alone.

    It is born with that setting: among what it imports first something looks at the GPUs, and later is too late.
    """
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        worker = futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        worker.submit(os.getpid).result()
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
    return worker


def _train_aside(config: AblationConfig, seed: int, deadline: float) -> bool:
    folder = seed_folder(config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / OUTPUT, "a") as file, redirect_stdout(file), redirect_stderr(file):
        return train_seed(config, seed, deadline)


@in_any_order
@hydra.main(config_path="conf", config_name="ablation", version_base="1.3")
def main(settings: DictConfig) -> None:
    """Run the ablation and print its tables; exits with one line where it cannot go on. The same command resumes."""
    try:
        config = OmegaConf.to_object(settings)
        done = run(config)
    except (ValueError, OSError, ImportError, OmegaConfBaseException) as error:
        raise SystemExit(f"ablation: {one_line(error)}") from None
    except futures.BrokenExecutor:
        raise SystemExit("ablation: one of its processes died; the same command goes on") from None
    except KeyboardInterrupt:
        raise SystemExit("ablation: interrupted; the same command goes on") from None
    print(ablation_table.tables(config))
    if not done:
        print("\nTime is up; the same command goes on.")


if __name__ == "__main__":
    main()
