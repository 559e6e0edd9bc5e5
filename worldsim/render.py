"""A recorded session painted again by the many-step teacher, beside the take of the few-step student.

    worldsim render session.json --track premium --teacher runs/boxing/teacher_forcing --out both.mp4
    worldsim render session.json --track realtime --out take.gif

Both takes begin alike, get the same actions and draw from the same noise; after the start each sees only what it has
painted itself. The shipped worlds leave the teacher out for its size: it is the folder `teacher` of a world's folder,
listed in its manifest, or what --teacher names, a world's folder or a training stage's. A .png is a film strip.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldsim.arguments import make_room_for, positive
from worldsim.cores import threads_of
from worldsim.models.dit import CausalDiT
from worldsim.player.clip import FILMS, check_clip_name, write_clip, write_strip
from worldsim.replay import Replay, digest
from worldsim.rollout import Sampler
from worldsim.sampler import OdeSampler, ode_grid
from worldsim.world_files import PART_FILES, verify_manifest
from worldsim.world_model import WorldModel
from worldsim.worlds import MANIFEST, world_path

TEACHER = "teacher"
"""Folder of the teacher's network in a world's folder."""
STAGE_NETWORK = "network"
"""Folder of the network in a training stage's folder."""
GAP = 4  # pixels between the two takes
BACKGROUND = 13


INTERVALS = 32
"""Calls of the teacher a frame, where nobody asks for another number."""


class PremiumWorld(WorldModel):
    """A world whose network, a many-step teacher, paints every frame along the probability-flow ODE.

    intervals: Euler steps of a frame, whatever number of steps is asked for.
    """

    def __init__(self, world: WorldModel, teacher: CausalDiT, *, intervals: int) -> None:
        super().__init__(world.info, world.actions, teacher, world.heads, world.starts, fingerprint=world.fingerprint)
        self.intervals = intervals

    def sampler(self, steps: int | None = None) -> Sampler:
        return OdeSampler(ode_grid(self.intervals, self.info.shift).tolist())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim render`."""
    parser.add_argument("file", type=Path, help="a replay file, as `worldsim record --replay FILE` writes it")
    parser.add_argument(
        "--track",
        choices=("premium", "realtime"),
        default="premium",
        help="premium: the teacher's take beside the student's (default); realtime: the student's alone",
    )
    parser.add_argument(
        "--teacher", type=Path, help="a world's folder, or a training stage's (default: the world's own)"
    )
    parser.add_argument("--intervals", type=positive(int), help=f"the teacher's calls a frame (default: {INTERVALS})")
    parser.add_argument(
        "--out", type=Path, help="an .mp4, .gif, .webp or .png (default: FILE's name with the track and .mp4)"
    )
    parser.add_argument("--world", help="the world's folder, where it is not where it was")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Paint the session and write the clip or the strip."""
    if args.track == "realtime" and (args.teacher is not None or args.intervals is not None):
        raise ValueError("--teacher and --intervals are for --track premium; the realtime track has no teacher")
    intervals = args.intervals or INTERVALS
    out = args.out or args.file.with_name(f"{args.file.name.split('.')[0]}.{args.track}.mp4")
    if out.suffix not in (*FILMS, ".png"):
        raise ValueError(f"cannot write '{out}'; give a name that ends in .mp4, .gif, .webp or .png")
    if out.suffix != ".png":
        check_clip_name(out)
    replay = Replay.load(args.file)
    name = args.world or replay.world
    with threads_of(replay.machine):
        world = replay.load_world(name, device=args.device)
    premium = None
    if args.track == "premium":
        teacher = load_teacher(args.teacher, world_path(name), world)
        premium = PremiumWorld(world, teacher, intervals=intervals)
    make_room_for(out)
    label = f"realtime, {replay.steps} steps"
    with threads_of(replay.machine):
        takes = {label: paint(replay, world, label)}
    other = _other_rounds(replay, takes[label])
    if premium is not None:
        label = f"premium, {intervals} steps"
        takes[label] = paint(replay, premium, label)
    if other:
        where = f"round {', '.join(map(str, other))}"
        print(
            f"render: not the recorded frames in {where}; `worldsim replay {args.file} --check` tells why",
            file=sys.stderr,
        )
    write(out, takes, f"{world.info.title}, {replay.frames()} frames", world.info.fps)
    print(f"{args.track}: {out}")
    return 0


def load_teacher(path: Path | None, folder: Path, world: WorldModel) -> CausalDiT:
    """The teacher's network, on the world's device and in its precision.

    path: what the user named, where a world's folder stands for its teacher or, without one, for its own network; None
    looks for a teacher in `folder`, the world's own. FileNotFoundError in one line where there is none,
    ValueError where it is damaged or of another game.
    """
    network = _own_teacher(folder) if path is None else _named_teacher(path)
    try:
        teacher = CausalDiT.from_pretrained(
            network, torch_dtype=world.denoiser.dtype, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"teacher '{network}' cannot be read ({reason}); give the folder of another") from None
    keys = ("height", "width", "action_size")
    seen, right = ({key: each.config[key] for key in keys} for each in (teacher, world.denoiser))
    if seen != right:
        raise ValueError(f"teacher '{network}' is of another game: {seen}, this world has {right}")
    return teacher.to(world.device)


def paint(replay: Replay, world: WorldModel, label: str) -> list[list[np.ndarray]]:
    """The frames (H, W, 3) uint8 of every round as this world paints them, that of the reset first.

    A take ends early where the world says that its episode is over.
    """
    env = replay.environment(world)
    takes = []
    with tqdm(total=replay.frames(), unit="frame", desc=label) as bar:
        for each in replay.rounds:
            takes.append([])
            for observation in each.observations(env):
                takes[-1].append(observation)
                bar.update(len(takes[-1]) > 1)
    return takes


def write(path: Path, takes: Mapping[str, Sequence[Sequence[np.ndarray]]], title: str, fps: int) -> None:
    """Write the takes side by side as a film, or some moments of the longest round as .png.

    takes: rounds of frames (H, W, 3) uint8 by label, the first from the left. A take that ended early keeps its last.
    """
    rounds = [_of_one_length(takes) for takes in zip(*takes.values(), strict=True)]
    if path.suffix == ".png":
        longest = max(rounds, key=lambda each: len(each[0]))
        write_strip(path, dict(zip(takes, longest, strict=True)), title)
        return
    write_clip(path, (_side_by_side(moment) for each in rounds for moment in zip(*each, strict=True)), fps)


def _of_one_length(takes: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    longest = max(map(len, takes))
    return [[*take, *[take[-1]] * (longest - len(take))] for take in takes]


def _side_by_side(frames: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((len(frames[0]), GAP, 3), BACKGROUND, np.uint8)
    parts = [part for frame in frames for part in (gap, frame)]
    return np.concatenate(parts[1:], axis=1)


def _other_rounds(replay: Replay, takes: Sequence[Sequence[np.ndarray]]) -> list[int]:
    """Numbers, from 1, of the rounds whose frames are not the recorded ones."""
    pairs = zip(takes, replay.rounds, strict=True)
    return [number for number, (take, each) in enumerate(pairs, start=1) if digest(take) != each.sha256]


def _named_teacher(path: Path) -> Path:
    if (path / MANIFEST).is_file():
        verify_manifest(path)
        return _own_teacher(path) if (path / TEACHER).is_dir() else path / "denoiser"
    for network in (path / STAGE_NETWORK, path):
        if (network / PART_FILES[0]).is_file():
            return network
    raise FileNotFoundError(
        f"'{path}' holds no network; give a world's folder or a stage's, as runs/boxing/teacher_forcing"
    )


def _own_teacher(folder: Path) -> Path:
    if not (folder / TEACHER).is_dir():
        how = "`python -m worldsim_training world=boxing` trains one; then --teacher runs/boxing/teacher_forcing"
        raise FileNotFoundError(f"world '{folder.name}' comes without its many-step teacher; {how}")
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    if any(f"{TEACHER}/{file}" not in listed for file in PART_FILES):
        raise ValueError(f"{folder / MANIFEST} does not list the teacher's files; restore the folder, or use --teacher")
    return folder / TEACHER
