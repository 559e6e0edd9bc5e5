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
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

from worldsim import __version__
from worldsim.arguments import make_room_for, positive
from worldsim.benchmark.agreement import agreement
from worldsim.benchmark.batches import bench_batches, sizes
from worldsim.benchmark.playing import begin, play_frame, random_action, timed
from worldsim.benchmark.plot import write_plot
from worldsim.benchmark.rival import OWN, is_known, load_rival, time_rival
from worldsim.benchmark.roofline import roofline
from worldsim.benchmark.stages import time_stages
from worldsim.memory import watch
from worldsim.world_model import WorldModel

WARMUP_FRAMES = 10
ENGINES = {
    "off": "the networks as they are written",
    "on": "rewritten for play",
    "compile": "rewritten and compiled, on a CPU for single worlds",
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
        "--against",
        metavar="FILE",
        help="also time another program's step in turn, by an adapter; or 'plain', 'plain-commit', 'late', 'commit'",
    )
    parser.add_argument("--steps", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument("--frames", type=int, default=300, help="frames to time (default: 300)")
    parser.add_argument(
        "--batch", type=sizes, metavar="N[/N...]", help="also time so many worlds at once, and their environments"
    )
    parser.add_argument(
        "--agree", type=positive(int), metavar="FRAMES", help="also how far the frames are from the plain networks'"
    )
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
    report |= roofline(model, steps=steps, seed=args.seed) | {"engine": args.engine, "painted_by": model.engine}
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
    if args.agree is not None:
        plain, _ = load_world(args.world, args.device, "off")
        report |= agreement(model, plain, frames=args.agree, steps=steps, seed=args.seed)
        print(
            f"  agreement    {report['agree_mean_levels']:8.3f} of 255 grey levels from the plain frames at mean, from"
            f" the same memory ({report['agree_worst_levels']:.3f} the worst frame; outcomes alike:"
            f" {report['agree_outcomes_share']:.1%}); left alone {report['agree_alone_mean_levels']:.2f}"
        )
    if args.batch is not None:
        rates = {"gflop": report["frame_gflop"], "rate": report["matmul_gflop_per_s"]}
        report |= bench_batches(model, args.batch, steps=steps, seed=args.seed, **rates)
    if args.memory is not None:
        worlds = args.batch and args.batch[-1]
        report |= bench_memory(model, calls=args.memory, worlds=worlds, steps=steps, seed=args.seed)
        print(
            f"  memory       {report['memory_last_mb']:8.1f} MB after {args.memory} steps,"
            f" {report['memory_mb_per_100k_steps']:+.2f} MB in 100,000; flat: {report['memory_flat']}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"written to {args.json}")
    if args.plot is not None:
        write_plot(args.plot, times_ms, report)
        print(f"drawn to {args.plot}")
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


def bench_memory(
    model: WorldModel, *, calls: int, worlds: int | None, steps: int, seed: int = 0
) -> dict[str, float | int | str]:
    """How the process grows over so many calls of `step` of one environment, or of a batch of `worlds`, with resets."""
    how, device = {"world": model, "steps": steps}, str(model.device)
    batch = worlds is not None
    env = gym.make_vec("worldsim/World-v0", num_envs=worlds, **how) if batch else gym.make("worldsim/World-v0", **how)
    env.action_space.seed(seed)
    env.reset(seed=seed)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if not batch and (terminated or truncated):
            env.reset()

    return watch(step, calls, device=device)


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
        f"  roofline     {r['roofline_share']:8.0%} of the matmul rate in turn, {r['roofline_share_min']:.0%} to"
        f" {r['roofline_share_max']:.0%}; {r['matmul_gflop_per_s']:.0f} GFLOP/s at best",
        f"  a frame      {r['frame_gflop']:8.2f} GFLOP; {r['memory_peak_mb']:.0f} MB at most",
    ]
    return "\n".join(lines)


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
        if file is not None:
            make_room_for(file)
    if args.plot is not None and args.plot.suffix not in (".png", ".svg"):
        raise ValueError(f"cannot draw '{args.plot}'; give a name that ends in .png or .svg")
    if args.plot is not None:
        import_module("matplotlib")  # where it is missing the command says so, and now rather than after the timing
    if args.against is not None and not is_known(args.against):
        raise FileNotFoundError(f"no adapter '{args.against}'; give its .py file, or {', '.join(OWN)}")


def _command(args: argparse.Namespace) -> str:
    options = [f"--frames {args.frames}", f"--seed {args.seed}", f"--device {args.device}"]
    given = {"engine": args.engine, "against": args.against, "steps": args.steps, "threads": args.threads}
    given |= {"agree": args.agree, "memory": args.memory}
    given["batch"] = args.batch and "/".join(map(str, args.batch))
    options += [f"--{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(["worldsim bench", str(args.world), *options])
