"""A world's facts: its game, actions, keys, licence and quality.

Without a world, the shipped worlds are listed. Reads the folder's JSON files and model card; loads no weights.
"""

import argparse
import json
from pathlib import Path

import gymnasium as gym

from worldsim.action import ActionSpec
from worldsim.arguments import positive
from worldsim.budget import state_bytes, working_bytes
from worldsim.world_files import INDEX
from worldsim.worlds import MANIFEST, list_worlds, world_path

CARD = "README.md"
NETWORK, HEADS = "denoiser/config.json", "heads/config.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", nargs="?", help="a shipped world's name or a world folder; left out: list the worlds")
    parser.add_argument("--batch", type=positive(int), help="also tell the memory that so many worlds at once take")


def run(args: argparse.Namespace) -> int:
    if args.world is not None:
        facts = world_facts(args.world)
        facts |= {} if args.batch is None else batch_facts(args.world, args.batch)
        width = max(map(len, facts))
        print("\n".join(f"{fact:{width}}  {value}" for fact, value in facts.items()))
        return 0
    if args.batch is not None:
        raise ValueError("--batch tells the memory of one world; name it, as in worldsim info boxing --batch 4")
    for name in list_worlds():
        facts = world_facts(name)
        print("   ".join((name, facts["environment"], facts["frames"], facts["size"])))
    return 0


def world_facts(name: str | Path) -> dict[str, str]:
    """Fact -> text for a shipped world or a world folder, in the order to print them.

    Raises ValueError or FileNotFoundError in one line for an unknown or a damaged world.
    """
    folder = world_path(name)
    index, files = _read(folder / INDEX), _read(folder / MANIFEST)
    try:
        facts = _world(index["world"], _environment(name, folder)) | _actions(ActionSpec.from_json(index["actions"]))
        megabytes = sum(entry["bytes"] for entry in files["files"].values()) / 1e6
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"world folder '{folder}' is damaged: {INDEX} or {MANIFEST} lacks {error}") from None
    facts |= {"size": f"{megabytes:.1f} MB in {len(files['files'])} files", "folder": str(folder)}
    return facts | _card(folder / CARD)


def batch_facts(name: str | Path, worlds: int) -> dict[str, str]:
    """Fact -> text of the memory that so many worlds at once take, beside Python and torch themselves."""
    folder = world_path(name)
    config, heads, files = (_read(folder / file) for file in (NETWORK, HEADS, MANIFEST))
    try:
        state, work = state_bytes(config, worlds, lag=heads.get("lag", 1)), working_bytes(config, worlds)
        weights = sum(entry["bytes"] for file, entry in files["files"].items() if file.endswith(".safetensors"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        read = f"{NETWORK}, {HEADS} or {MANIFEST}"
        raise ValueError(f"world folder '{folder}' is damaged: {read} lacks {error}") from None
    return {
        "batch": f"{worlds} worlds",
        "their state": f"{state / 1e6:.1f} MB, {state / worlds / 1e6:.2f} each; as much again for each save state",
        "a step's work": f"at most {work / 1e6:.1f} MB more on a CPU",
        "weights": f"{weights / 1e6:.1f} MB; on a CPU twice, as they are saved and as they are played",
    }


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"'{path}' is damaged: it is no JSON; restore the world's folder from where it came") from None


def _environment(name: str | Path, folder: Path) -> str:
    specs = [spec for spec in gym.registry.values() if spec.namespace == "worldsim"]
    ids = [spec.id for spec in specs if spec.kwargs.get("world") == str(name)]
    return ", ".join(ids) or f"worldsim/World-v0 with world='{folder}'"


def _world(world: dict, environment: str) -> dict[str, str]:
    choices = ", ".join(map(str, world["step_choices"]))
    return {
        "world": world["name"],
        "environment": environment,
        "source game": world["env_id"],
        "frames": f"{world['width']}x{world['height']} at {world['fps']} FPS",
        "denoising steps": f"{choices}; {world['default_steps']} unless asked",
        "memory": f"{world['window_frames']} frames",
        "episode": f"at most {world['max_episode_steps']} frames"
        + "; ends drawn by chance" * world.get("draws_ends", False),
    }


def _actions(spec: ActionSpec) -> dict[str, str]:
    native = f"{len(spec.names)}: {', '.join(spec.names)}" if spec.names else str(spec.space())
    keys = [f"{channel} = {' or '.join(names)}" for channel, names in spec.keys.items()]
    return {"actions": native, "keys": ", ".join(keys)}


def _card(path: Path) -> dict[str, str]:
    """Licence and metrics from the model card's header; nothing where there is no card."""
    if not path.is_file():
        return {}
    from huggingface_hub import ModelCard

    try:
        data = ModelCard.load(path).data
    except Exception as error:  # its header may hold anything
        raise ValueError(f"the header of '{path}' cannot be read ({' '.join(str(error).split())[:120]})") from None
    metrics = [
        f"{result.metric_name or result.metric_type} {result.metric_value}" for result in data.eval_results or ()
    ]
    facts = {"licence": data.license, "data": data.datasets, "measured": ", ".join(metrics)}
    listed = {fact: [value] if isinstance(value, str) else value for fact, value in facts.items() if value}
    return {fact: ", ".join(map(str, values)) for fact, values in listed.items()}
