"""Many worlds at once: frames a second of the network, and of gymnasium's environments in turn with a single one."""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

from worldsim.benchmark.playing import begin, random_action, timed
from worldsim.benchmark.stages import time_stages
from worldsim.memory import MEGABYTE
from worldsim.world_model import WorldModel

PAIRS, TURN_CALLS, TURN_FRAMES = 5, 8, 64
"""Turns of a single environment and of a batch, calls of `step` in one of the batch's turns, and at most in one of the
single environment's."""

WARMUP_CALLS, WARMUP_SINGLE = 3, 10

CALLS, SECONDS = 5, 3.0
"""Frames of a batch that are timed at least, and the time after which no more are."""

STAGE_CALLS = 8


def sizes(text: str) -> list[int]:
    """Numbers of worlds, one or several: "256", "1/16/256/1024"; ArgumentTypeError otherwise."""
    parts = re.split("[/,]", text)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers above 0, such as 16 or 1/16/256")
    return [int(part) for part in parts]


def bench_batches(
    model: WorldModel, worlds: Sequence[int], *, steps: int, gflop: float, rate: float, seed: int
) -> dict[str, float | int | str]:
    """What each number of worlds reaches, its keys beginning with `batch_N_`; prints a line or two for each.

    gflop: of one world's frame; rate: the machine's best, in GFLOP/s. Where a size fails (too little memory, say) its
    `batch_N_error` says why in one line and the others go on.
    """
    report: dict[str, float | int | str] = {"batch": "/".join(map(str, worlds))}
    for count in tqdm(worlds, unit="size", desc="batches", disable=len(worlds) == 1):
        for work in (time_batch, time_environments):
            try:
                found = work(model, count, steps=steps, seed=seed)
            except Exception as error:  # of a device, a compiler, a library
                found = {"error": (str(error).strip() or type(error).__name__).splitlines()[0]}
            if "fps" in found:
                found["roofline_share_of_best"] = found["fps"] * gflop / rate
            tqdm.write(_line(count, found))
            report |= {f"batch_{count}_{name}": value for name, value in found.items()}
    return report


def time_batch(model: WorldModel, worlds: int, *, steps: int, seed: int) -> dict[str, float | int | str]:
    """Frames a second of so many worlds with full windows, painted, judged by the heads and committed at once, the
    frames left on the device; the stages' milliseconds; and the most memory of a GPU that torch took for it."""
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(model.device)
    rng, state = np.random.default_rng(seed), begin(model, seed, worlds)

    def call() -> None:
        model.step(state, random_action(model, rng, worlds), steps=steps)

    _, first_s = timed(model, call)
    for _ in range(WARMUP_CALLS + max(0, model.info.window_frames - model.starts.frames.shape[1])):
        call()
    times_s: list[float] = []
    while len(times_s) < CALLS or sum(times_s) < SECONDS:
        times_s.append(timed(model, call)[1])
    stages = time_stages(model, state, steps, rng, frames=STAGE_CALLS)
    memory = {"memory_mb": torch.cuda.max_memory_allocated(model.device) / MEGABYTE} if on_gpu else {}
    return {
        "fps": worlds / statistics.median(times_s),
        "fps_max": worlds / min(times_s),
        "frame_ms_p50": 1e3 * statistics.median(times_s),
        "frame_ms_p95": 1e3 * float(np.quantile(times_s, 0.95)),
        "frames": len(times_s),
        "first_s": first_s,
        "engine": model.engine,
        "graphs": "yes" if model.is_graphed else "no",
        **stages,
        **memory,
    }


def time_environments(model: WorldModel, worlds: int, *, steps: int, seed: int) -> dict[str, float | int | str]:
    """Environment steps a second of a batch and of a single environment as gymnasium's `make` and `make_vec` build
    them, pictures on the CPU included, timed in turn, and the ratio of each pair."""
    rng, how = np.random.default_rng(seed), {"world": model, "steps": steps, "max_episode_steps": -1}
    single = gym.make("worldsim/World-v0", **how)
    many = gym.make_vec("worldsim/World-v0", num_envs=worlds, **how)
    for env, calls in ((single, WARMUP_SINGLE), (many, WARMUP_CALLS)):
        env.action_space.seed(int(rng.integers(2**31)))
        env.reset(seed=seed)
        _steps_per_s(env, calls, 1)
    turn = min(TURN_CALLS * worlds, TURN_FRAMES)
    pairs = [(_steps_per_s(single, turn, 1), _steps_per_s(many, TURN_CALLS, worlds)) for _ in range(PAIRS)]
    ratios = [batch / one for one, batch in pairs]
    return {
        "env_steps_per_s": statistics.median(batch for _, batch in pairs),
        "single_env_steps_per_s": statistics.median(one for one, _ in pairs),
        "ratio_p50": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _steps_per_s(env: gym.Env | gym.vector.VectorEnv, calls: int, worlds: int) -> float:
    """Environment steps a second over so many calls of `step`, each of `worlds` worlds; ended episodes begin anew."""
    started = time.perf_counter()
    for _ in range(calls):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if isinstance(env, gym.Env) and (terminated or truncated):
            env.reset()
    return calls * worlds / (time.perf_counter() - started)


def _line(worlds: int, found: dict[str, float | int | str]) -> str:
    start = f"  batch of {worlds:<4}"
    if "error" in found:
        return f"{start} failed: {found['error']}"
    if "fps" in found:
        memory = f"; {found['memory_mb']:.0f} MB" if "memory_mb" in found else ""
        return (
            f"{start}{found['fps']:8.0f} frames/s, {found['roofline_share_of_best']:.0%} of the best matmul rate;"
            f" {found['frame_ms_p50']:.2f} ms: {found['paint_ms']:.2f} paint, {found['commit_ms']:.2f} commit,"
            f" {found['heads_ms']:.2f} heads, {found['convert_ms']:.2f} pictures{memory};"
            f" {found['engine']}, graphs: {found['graphs']}"
        )
    return (
        f"{start}{found['env_steps_per_s']:8.1f} environment steps/s, {found['ratio_p50']:.2f} times one environment's"
        f" (median of {PAIRS} pairs; {found['ratio_min']:.2f} to {found['ratio_max']:.2f})"
    )
