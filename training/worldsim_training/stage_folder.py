"""The folder of one stage of a run: its settings, its checkpoint, its network and its scores."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from worldsim_training import checkpoint, loop
from worldsim_training.config import LoopConfig, TrainingConfig

NETWORK = "network"
NETWORKS = {"start": "from another network", "teacher": "with another teacher"}
"""Of a stage's settings those that are hashes of weights, and how to tell that they are others."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
SETTINGS = "config.yaml"
SCORES = "validation.json"
BUDGET = {"steps", "seconds", "decay", "checkpoint_every", "checkpoint_activations", "folder", "patience"}
"""Settings that only say how long a stage goes on and where its data lies: it may go on with others."""


class StageFolder:
    """What a stage has written so far to the folder at `path`, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, config: TrainingConfig) -> None:
        """Make the folder ready for training: the whole configuration goes in, what an earlier end left goes out."""
        shutil.rmtree(self.path / NETWORK, ignore_errors=True)
        (self.path / SCORES).unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.structured(config), self.path / SETTINGS)

    def is_finished(self, config: LoopConfig, settings: Mapping[str, Any], last_written: str) -> bool:
        """Whether the stage has reached the end that these settings give it; ValueError where it began from others."""
        if not (self.path / loop.CHECKPOINT).is_file():
            return False
        notes = checkpoint.load_notes(self.path / loop.CHECKPOINT)
        before, now = _recipe(notes["settings"]), _recipe(settings)
        for key in now | before:
            if before.get(key) != now.get(key):
                seen = _difference(key, before.get(key), now.get(key))
                raise ValueError(f"{self.path} was trained {seen}; delete that folder or choose another out=")
        has_waited = loop.has_waited(notes.get("since_best", 0), settings["stage"].get("patience", 0))
        at_end = has_waited or loop.progress(notes["step"], notes["seconds"], config) >= 1.0
        return at_end and (self.path / NETWORK).is_dir() and (self.path / last_written).is_file()

    def noted(self) -> dict[str, Any]:
        """The settings that the stage was trained with so far; empty before its first checkpoint."""
        path = self.path / loop.CHECKPOINT
        return checkpoint.load_notes(path)["settings"] if path.is_file() else {}

    def network(self) -> Path:
        """Folder of the network that the stage came to; FileNotFoundError, naming the stage, before its end."""
        folder = self.path / NETWORK
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no {folder}; run stage={self.path.name} to its end first")
        return folder

    def write_scores(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Keep the scores by sampler, then by name; the last file that a scored stage writes."""
        (self.path / SCORES).write_text(json.dumps(scores, indent=2) + "\n")

    def scores(self) -> dict[str, dict[str, float]]:
        """What `write_scores` wrote; FileNotFoundError, naming the stage, where that is missing."""
        path = self.path / SCORES
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; run stage={self.path.name} to its end first")
        return json.loads(path.read_text())


def network_hash(network: Path) -> str:
    """SHA-256 of the weights in a network's folder."""
    return hashlib.sha256((network / WEIGHTS).read_bytes()).hexdigest()


def replace_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder beside its place and move it there, so that a kill leaves no half of one."""
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    write(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _difference(key: str, before: Any, now: Any) -> str:
    if key in NETWORKS:
        return f"{NETWORKS[key]} than there is now"
    before, now = ("off" if value is None else value for value in (before, now))
    return f"with {key} {before}, now it is {now}"


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage as flat data, without the BUDGET."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": each for inner, each in _recipe(value).items()}
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key.rsplit(".", 1)[-1] not in BUDGET}
