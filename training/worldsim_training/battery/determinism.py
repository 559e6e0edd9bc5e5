"""Determinism: the same seed and actions give the same bytes, again, in another slot, on other threads, elsewhere."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys

import numpy as np
import torch

from worldsim.world_model import WorldModel
from worldsim_training import imagine

SLOTS = 3


def measure_determinism(model: WorldModel, *, frames: int, steps: int, seed: int, world: str | None) -> dict[str, int]:
    """1 where so many frames of one world have the SHA-256 that they first had, 0 where not, under each change.

    `deterministic_again`: played again. `_slot`: in another slot of a batch of 3, beside other neighbours. `_threads`:
    on two CPU threads for one. `_process`: in a fresh process, where `world` tells what to load there.
    """
    first = digest(model, frames, steps, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        other_threads = digest(model, frames, steps, seed)
    finally:
        torch.set_num_threads(threads)
    out = {
        "deterministic_again": int(digest(model, frames, steps, seed) == first),
        "deterministic_slot": int(digest(model, frames, steps, seed, slot=SLOTS - 1) == first),
        "deterministic_threads": int(other_threads == first),
        "deterministic_frames": frames,
    }
    if world is not None:
        told = [str(each) for each in (world, frames, steps, seed, model.device)]
        command = [sys.executable, "-m", "worldsim_training.battery.determinism", *told]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        out["deterministic_process"] = int(said[-1] == first)
    return out


def digest(model: WorldModel, frames: int, steps: int, seed: int, *, slot: int = 0) -> str:
    """SHA-256 of a world's frames, rewards and ends from its first start, under random actions, in a slot of three."""
    rng = np.random.default_rng(seed)
    start, past = model.starts.frames[:1], model.starts.actions[:1]
    actions = rng.integers(len(model.actions.table), size=frames)
    others = [rng.integers(len(model.actions.table), size=frames) for _ in range(SLOTS - 1)]
    rows = np.stack([*others[:slot], actions, *others[slot:]])
    seeds = [seed if i == slot else seed + 1 + i for i in range(SLOTS)]
    state = imagine.begin(model, start.repeat(SLOTS, axis=0), past.repeat(SLOTS, axis=0), seeds)
    played = imagine.play_outcomes(model, state, rows, imagine.Settings(steps, SLOTS))
    parts = (played.frames[slot], played.rewards[slot], played.ended[slot])
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def main(argv: list[str]) -> None:
    """Print the digest of: world, frames, steps, seed, device."""
    parser = argparse.ArgumentParser(prog="worldsim_training.battery.determinism", description=__doc__)
    parser.add_argument("world")
    for name in ("frames", "steps", "seed"):
        parser.add_argument(name, type=int)
    parser.add_argument("device")
    args = parser.parse_args(argv)
    model = WorldModel.from_pretrained(args.world, device=args.device)
    print(digest(model, args.frames, args.steps, args.seed))


if __name__ == "__main__":
    main(sys.argv[1:])
