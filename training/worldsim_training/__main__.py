"""The training command: `python -m worldsim_training world=boxing` runs every stage, `stage=...` one of them.

On several GPUs, one process each, with DDP or, where the optimiser's moments are too large for one, with FSDP2:

    torchrun --standalone --nproc-per-node 2 -m worldsim_training world=boxing
    torchrun --standalone --nproc-per-node 2 -m worldsim_training world=boxing scale=fsdp

A batch in the settings is that of all processes together; their number must divide it and may change from one call to
the next, which goes on from the last checkpoint all the same. `device=cpu` trains so without any GPU.
"""

from __future__ import annotations

import shlex
import sys
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from worldsim.cli import one_line
from worldsim_training import config
from worldsim_training.command_line import in_any_order

config.register()


_given_up: list[str] = []
"""Folders of a multirun's jobs that could not go on."""


@in_any_order
def main() -> None:
    """Run the pipeline; exits with one line where it cannot go on. The same command resumes.

    The jobs of a multirun write to `<out>/<their overrides>`, never two of them to one folder. One that cannot go on
    says why, and the others run all the same.
    """
    _given_up.clear()
    _run()
    if _given_up:
        raise SystemExit(f"worldsim_training: {len(_given_up)} of the jobs stopped early: {', '.join(_given_up)}")


@hydra.main(config_path="conf", config_name="training", version_base="1.3")
def _run(settings: DictConfig) -> None:
    """One job, or all there is."""
    from worldsim_training import processes
    from worldsim_training.gates import GateFailed
    from worldsim_training.loop import TrainingFault
    from worldsim_training.pipeline import Pipeline

    job = HydraConfig.get()
    try:
        chosen = OmegaConf.to_object(settings)
        if job.mode == RunMode.MULTIRUN:
            chosen = replace(chosen, out=job.runtime.output_dir)
        processes.join()
        done = Pipeline(chosen).run()
    except processes.StoppedElsewhere:
        raise SystemExit(1) from None
    except (ValueError, OSError, ImportError, TrainingFault, GateFailed, OmegaConfBaseException) as error:
        line = f"worldsim_training: {one_line(error)}"
        if job.mode != RunMode.MULTIRUN or processes.count() > 1:
            raise SystemExit(line) from None
        print(line, file=sys.stderr)
        _given_up.append(job.runtime.output_dir)
        return
    except BrokenExecutor:
        raise SystemExit("worldsim_training: a recording process died; the same command goes on") from None
    except KeyboardInterrupt:
        raise SystemExit("worldsim_training: interrupted; the same command goes on") from None
    if processes.is_first():
        print(_outcome(chosen) if done else "Time is up; the same command goes on from the last checkpoint.")


def _outcome(chosen: config.TrainingConfig) -> str:
    """What a run that is done came to: its world and how it is played, or the one stage asked for."""
    from worldsim_training import plan

    if plan.stages(chosen)[-1] != "export":
        return f"stage {chosen.stage} is done"
    world = Path(chosen.out) / "world"
    return f"world: {world}\nplay it: worldsim play {shlex.quote(str(world))}"


if __name__ == "__main__":
    main()
