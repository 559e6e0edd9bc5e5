"""The training command: `python -m worldsim_training world=boxing` runs every stage, `stage=...` one of them."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from worldsim_training import config as schema

schema.register()


@hydra.main(config_path="conf", config_name="training", version_base="1.3")
def main(settings: DictConfig) -> None:
    """Run the pipeline; exits with one line where it cannot go on. The same command resumes."""
    from worldsim_training.loop import TrainingFault
    from worldsim_training.pipeline import Pipeline

    try:
        config = OmegaConf.to_object(settings)
        Path(config.out).mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, Path(config.out) / "config.yaml", resolve=True)
        done = Pipeline(config).run()
    except (ValueError, OSError, ImportError, TrainingFault) as error:
        raise SystemExit(f"worldsim_training: {error}") from None
    if not done:
        print("Time is up; the same command goes on from the last checkpoint.")


if __name__ == "__main__":
    main()
