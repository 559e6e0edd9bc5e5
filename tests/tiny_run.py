"""A run of a few seconds: its settings, the run itself, and what it left on disk."""

from omegaconf import OmegaConf

from worldsim_training import config
from worldsim_training.pipeline import Pipeline

TINY_MODEL = {"dim": 16, "depth": 1, "heads": 2, "window": 3, "conv_widths": [8, 8]}
TINY_LOOP = {"steps": 4, "batch": 2, "learning_rate": 1e-3, "warmup": 1, "checkpoint_every": 2}
TINY_VALIDATION = {"clips": 2, "frames": 4, "teacher_steps": 3}
TINY = {
    "data": {"frames": 300, "clip_frames": 4},
    "model": TINY_MODEL,
    "context": {"painted_share": 0.5},
    "teacher_forcing": {"loop": TINY_LOOP},
    "bidirectional": {"loop": TINY_LOOP},
    "consistency": {"loop": TINY_LOOP, "intervals": 4},
    "ode": {"loop": TINY_LOOP, "intervals": 4},
    "outcomes": {"loop": TINY_LOOP, "width": 4, "reward_share": 0.2, "end_share": 0.2},
    "starts": 2,
}


def settings(folder, *changes, **top):
    """The training configuration of a tiny world of the dot game."""
    world = {"name": "dot", "game": "dot", **TINY, "data": {**TINY["data"], "folder": str(folder / "data")}}
    tree = {"world": world, "out": str(folder / "run"), "device": "cpu", "compile": False}
    tree |= {"validation_on_cpu": TINY_VALIDATION, "gates": {"enabled": False}}
    merged = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(changes)), top)
    return OmegaConf.to_object(OmegaConf.merge(config.schema(), merged))


def run(folder, *changes, **top):
    return Pipeline(settings(folder, *changes, **top)).run()


def written(folder):
    """When each file was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def weights(folder):
    """The bytes of every file of weights under a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
