"""The speed of a world: frames per second and frame times, all in.

    worldsim bench boxing --json bench.json

One world is played with a full window. A frame is everything a player waits for: the denoising steps, reward and end,
the commit to memory, and the picture as (H, W, 3) uint8 on the CPU. Loading, the first frame and warm-up are reported
apart. Run it on an idle machine: one busy process more makes it several times slower.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

from worldsim import __version__
from worldsim.arguments import positive
from worldsim.benchmark.playing import begin, picture, play_frame, random_action, synchronise, timed
from worldsim.benchmark.plot import write_plot
from worldsim.benchmark.rival import load_rival, time_rival
from worldsim.benchmark.roofline import roofline
from worldsim.memory import watch
from worldsim.world_model import WorldModel, WorldState

WARMUP_FRAMES = 10
STAGE_FRAMES = 60
"""Frames over which the stages are timed apart, after the all-in run."""

BATCH_PAIRS, BATCH_FRAMES = 5, 8
"""Turns of a single environment and of a batch, and the calls of `step` in one of the batch's turns."""

ENGINES = {
    "off": "the networks as they are written",
    "on": "rewritten for play",
    "compile": "rewritten and compiled for single worlds",
}
"""What `--engine` chooses from."""

IDLE_LOAD = 0.5
"""One-minute load average a machine may have and still count as idle."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `worldsim bench`."""
    parser.add_argument("world", help="name of a shipped world, or a world's folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, as one flat object")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write a picture of all frame times here, .png or .svg"
    )
    parser.add_argument("--engine", choices=ENGINES, default="on", help="how the networks run (default: on)")
    parser.add_argument(
        "--against", metavar="FILE", help="also time another program's step in turn, through an adapter; or 'plain'"
    )
    parser.add_argument("--steps", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument("--frames", type=int, default=300, help="frames to time (default: 300)")
    parser.add_argument("--batch", type=positive(int), help="also time a batch of so many environments against one")
    parser.add_argument(
        "--memory", type=positive(int), metavar="STEPS", help="also whether so many steps take more and more memory"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, help="of actions and noise (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Time a world, print a table and write the JSON file; 0 when it was timed, whatever the figures."""
    _check(args)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    warning = busy_warning(load)
    if warning:
        print(f"bench: {warning}", file=sys.stderr)
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    model, started = load_world(args.world, args.device, args.engine)
    machine = describe_machine(args.device) | {"load_1_min": load}
    steps = model.info.default_steps if args.steps is None else args.steps
    times_ms: list[float] = []
    report = bench(model, frames=args.frames, steps=steps, seed=args.seed, times_ms=times_ms)
    report |= roofline(model, steps=steps, frame_ms=report["frame_ms_p50"]) | {"engine": args.engine}
    report |= describe_world(model) | machine | started | {"warning": warning, "command": _command(args)}
    report |= {"memory_peak_mb": peak_memory_mb(model)}
    print(table(report))
    if args.against is not None:
        rival = load_rival(args.against, model, args.world, steps=steps, seed=args.seed)
        report |= time_rival(model, rival, steps=steps, seed=args.seed)
        print(
            f"  against      {report['rival_ratio_p50']:8.2f} times {report['rival']}, which reaches"
            f" {report['rival_fps_p50']:.1f} frames/s (median of {report['rival_pairs']} pairs;"
            f" {report['rival_ratio_min']:.2f} to {report['rival_ratio_max']:.2f})"
        )
    if args.batch is not None:
        report |= bench_batch(args.world, worlds=args.batch, steps=steps, device=args.device, seed=args.seed)
        print(
            f"  batch of {args.batch:<4}{report['batch_env_steps_per_s']:8.1f} environment steps/s,"
            f" {report['batch_ratio_p50']:.2f} times one environment's (median of {BATCH_PAIRS} pairs;"
            f" {report['batch_ratio_min']:.2f} to {report['batch_ratio_max']:.2f})"
        )
    if args.memory is not None:
        report |= bench_memory(args.world, calls=args.memory, worlds=args.batch, steps=steps, device=args.device)
        print(
            f"  memory       {report['memory_last_mb']:8.1f} MB after {args.memory} steps,"
            f" {report['memory_mb_per_100k_steps']:+.2f} MB in 100,000; flat: {report['memory_flat']}"
        )
    if args.plot is not None:
        write_plot(args.plot, times_ms, report)
        print(f"drawn to {args.plot}")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"written to {args.json}")
    return 0


def load_world(world: str, device: str, engine: str) -> tuple[WorldModel, dict[str, float]]:
    """The world as one of `ENGINES` plays it, and the seconds that loading and compiling took."""
    started = time.perf_counter()
    model = WorldModel.from_pretrained(world, device=device)
    loaded = time.perf_counter()
    if engine == "off":
        model.play_plain()
    elif engine == "compile":
        model.play_compiled()
    return model, {"load_s": loaded - started, "compile_s": time.perf_counter() - loaded}


def bench(
    model: WorldModel,
    *,
    frames: int,
    steps: int,
    seed: int = 0,
    progress: bool = True,
    times_ms: list[float] | None = None,
) -> dict[str, float | int]:
    """Frame times in milliseconds of one world with a full window, over `frames` frames, and each stage's median.

    `fps_all_in` is frames over the wall time of the whole run. times_ms: a list that gets every frame's time.
    Raises ValueError for a step count the world has not.
    """
    if steps not in model.info.step_choices:
        raise ValueError(f"steps={steps} is not a trained step count; use one of {model.info.step_choices}")
    rng = np.random.default_rng(seed)
    state, reset_s = timed(model, lambda: begin(model, seed))
    _, first_s = timed(model, lambda: play_frame(model, state, random_action(model, rng), steps))
    fill = max(0, model.info.window_frames - model.starts.frames.shape[1])
    for _ in range(fill + WARMUP_FRAMES):
        play_frame(model, state, random_action(model, rng), steps)
    actions = [random_action(model, rng) for _ in range(frames)]
    times_ms = [] if times_ms is None else times_ms
    started = time.perf_counter()
    for action in tqdm(actions, unit="frame", desc="bench", disable=not progress):
        times_ms.append(1e3 * timed(model, lambda action=action: play_frame(model, state, action, steps))[1])
    wall_s = time.perf_counter() - started
    return {
        "fps_all_in": frames / wall_s,
        "frame_ms_p50": statistics.median(times_ms),
        "frame_ms_p95": float(np.quantile(times_ms, 0.95)),
        "frame_ms_p99": float(np.quantile(times_ms, 0.99)),
        "frame_ms_min": min(times_ms),
        "frame_ms_max": max(times_ms),
        "steps": steps,
        "frames": frames,
        "warmup_frames": fill + WARMUP_FRAMES,
        "first_frame_s": reset_s + first_s,
        "threads": torch.get_num_threads(),
        **time_stages(model, state, steps, rng),
    }


def bench_batch(world: str, *, worlds: int, steps: int, device: str, seed: int = 0) -> dict[str, float | int]:
    """Environment steps a second of a batch and of a single environment, timed in turn, and the ratio of each pair.

    Both paint `BATCH_FRAMES` x worlds frames a turn, as gymnasium's `make` and `make_vec` build them.
    """
    rng, how = np.random.default_rng(seed), {"world": world, "steps": steps, "device": device}
    single = gym.make("worldsim/World-v0", max_episode_steps=-1, **how)
    many = gym.make_vec("worldsim/World-v0", num_envs=worlds, max_episode_steps=-1, **how)
    for env in (single, many):
        env.action_space.seed(int(rng.integers(2**31)))
        env.reset(seed=seed)
        _steps_per_s(env, WARMUP_FRAMES, 1)
    pairs = [
        (_steps_per_s(single, BATCH_FRAMES * worlds, 1), _steps_per_s(many, BATCH_FRAMES, worlds))
        for _ in range(BATCH_PAIRS)
    ]
    ratios = [batch / one for one, batch in pairs]
    return {
        "batch": worlds,
        "batch_env_steps_per_s": statistics.median(batch for _, batch in pairs),
        "single_env_steps_per_s": statistics.median(one for one, _ in pairs),
        "batch_ratio_p50": statistics.median(ratios),
        "batch_ratio_min": min(ratios),
        "batch_ratio_max": max(ratios),
    }


def bench_memory(
    world: str, *, calls: int, worlds: int | None, steps: int, device: str, seed: int = 0
) -> dict[str, float | int | str]:
    """How the process grows over so many calls of `step` of one environment, or of a batch of `worlds`, with resets."""
    how = {"world": world, "steps": steps, "device": device}
    batch = worlds is not None
    env = gym.make_vec("worldsim/World-v0", num_envs=worlds, **how) if batch else gym.make("worldsim/World-v0", **how)
    env.action_space.seed(seed)
    env.reset(seed=seed)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if not batch and (terminated or truncated):
            env.reset()

    return watch(step, calls, device=device)


def _steps_per_s(env, calls: int, worlds: int) -> float:
    """Environment steps a second over so many calls of `step`, each of `worlds` worlds; ended episodes begin anew."""
    started = time.perf_counter()
    for _ in range(calls):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if worlds == 1 and np.any(terminated | truncated):
            env.reset()
    return calls * worlds / (time.perf_counter() - started)


def time_stages(
    model: WorldModel, state: WorldState, steps: int, rng: np.random.Generator, *, frames: int = STAGE_FRAMES
) -> dict[str, float]:
    """Change the state by `frames` frames: median milliseconds of painting (all denoising), of
    reading the heads, of the commit alone, of the picture.

    From an input to the frame that answers it a player waits for painting and picture: the commit may come after.
    `WorldModel.commit` reads the heads too; the heads are timed once more by themselves and taken off.
    """
    clock = _Clock(model)
    for _ in range(frames):
        action = random_action(model, rng)
        before = model.codec.encode(state.last)
        with clock("paint"):
            frame = model.paint(state, action, steps=steps)
        after = model.codec.encode(frame)
        with clock("heads"):
            model.reader.read(before, after)
        with clock("commit"):
            model.commit(state, frame, action)
        with clock("convert"):
            picture(frame)
    median = {stage: statistics.median(times) for stage, times in clock.times_ms.items()}
    shown_ms = np.add(clock.times_ms["paint"], clock.times_ms["convert"])
    return {
        **{f"input_to_frame_ms_p{share}": float(np.percentile(shown_ms, share)) for share in (50, 95, 99)},
        "paint_ms": median["paint"],
        "commit_ms": max(0.0, median["commit"] - median["heads"]),
        "heads_ms": median["heads"],
        "convert_ms": median["convert"],
    }


def describe_world(model: WorldModel) -> dict[str, str | int]:
    """What was timed: size, precision and the versions that decide the speed."""
    config = model.denoiser.config
    return {
        "world": model.info.name,
        "world_manifest_sha256": model.fingerprint,
        "parameters": sum(weight.numel() for weight in model.denoiser.parameters()),
        "parameters_heads": sum(weight.numel() for weight in model.heads.parameters()),
        "resolution": f"{model.info.width}x{model.info.height}",
        "window_frames": model.info.window_frames,
        "game_fps": model.info.fps,
        "dtype": str(model.denoiser.dtype).removeprefix("torch."),
        "network": ", ".join(f"{key} {config[key]}" for key in ("dim", "depth", "heads") if key in config),
    }


def describe_machine(device: str) -> dict[str, str | int | float]:
    """Where it was timed."""
    return {
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "platform": platform.platform(),
        "version_python": platform.python_version(),
        "version_torch": torch.__version__,
        "version_worldsim": __version__,
    }


def peak_memory_mb(model: WorldModel) -> float:
    """The most memory so far: of the process on a CPU, of torch on a GPU; NaN where the system does not tell."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 1e6
    if find_spec("resource") is None:
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def busy_warning(load: float) -> str:
    """One line where the load average says that other work runs here; empty where the machine is idle."""
    if load <= IDLE_LOAD:
        return ""
    return f"this machine is busy (load {load:.1f}): the figures are a lower bound; time it again when it is idle"


def table(report: dict) -> str:
    """The report as lines to read."""
    r = report
    lines = [
        f"{r['world']}: {r['parameters'] / 1e6:.1f} M parameters, {r['resolution']}, {r['dtype']}, {r['steps']} steps,"
        f" window {r['window_frames']}",
        f"{r['cpu'] if r['device'] == 'cpu' else r['device']}, {r['threads']} threads, torch {r['version_torch']}",
        f"  all in       {r['fps_all_in']:8.1f} frames/s, the game runs at {r['game_fps']}",
        f"  frame        {r['frame_ms_p50']:8.1f} ms median, {r['frame_ms_p95']:.1f} p95, {r['frame_ms_p99']:.1f} p99,"
        f" {r['frame_ms_min']:.1f} min",
        f"  of which     {r['paint_ms']:8.1f} ms paint, {r['commit_ms']:.1f} commit, {r['heads_ms']:.1f} heads,"
        f" {r['convert_ms']:.1f} picture",
        f"  to the eye   {r['input_to_frame_ms_p50']:8.1f} ms median, {r['input_to_frame_ms_p95']:.1f} p95,"
        f" {r['input_to_frame_ms_p99']:.1f} p99, with the commit after it",
        f"  start        {r['load_s']:8.1f} s to load, {r['compile_s']:.1f} to compile or find compiled code,"
        f" {r['first_frame_s']:.2f} to the first frame",
        f"  roofline     {r['roofline_share']:8.0%} of {r['matmul_gflop_per_s']:.0f} GFLOP/s at"
        f" {r['frame_gflop']:.2f} GFLOP a frame; {r['memory_peak_mb']:.0f} MB at most",
    ]
    return "\n".join(lines)


@dataclass
class _Clock:
    """Collects the times of named stages."""

    model: WorldModel
    times_ms: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        synchronise(self.model)
        started = time.perf_counter()
        yield
        synchronise(self.model)
        self.times_ms.setdefault(stage, []).append(1e3 * (time.perf_counter() - started))


def cpu_name() -> str:
    """Name of the processor as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check(args: argparse.Namespace) -> None:
    for name in ("frames", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; use at least 1")
    if args.seed < 0:
        raise ValueError(f"seed is {args.seed}; use 0 or more")
    for file, usual in ((args.json, "bench.json"), (args.plot, "bench.png")):
        if file is not None and file.is_dir():
            raise ValueError(f"'{file}' is a folder; give the name of a file, such as {file / usual}")


def _command(args: argparse.Namespace) -> str:
    options = [f"--frames {args.frames}", f"--seed {args.seed}", f"--device {args.device}"]
    given = {"engine": args.engine, "against": args.against, "steps": args.steps, "threads": args.threads}
    given |= {"batch": args.batch, "memory": args.memory}
    options += [f"--{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(["worldsim bench", str(args.world), *options])
