"""Play a world in a window, or without one from a script of keys.

    worldsim play                                          a menu of the shipped worlds, where there are several
    worldsim play boxing --record round.mp4                the clip, and beside it the replay file
    worldsim play --headless --keys "right*10,fire"        no window: prints the score
    worldsim play --headless --keys "up&fire*8,rest" --record clip.gif

A script names the world's actions or keys, & joins what is held together, * says for how many frames.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from importlib.metadata import entry_points
from pathlib import Path

import gymnasium as gym

from worldsim.arguments import natural, positive
from worldsim.player import controls, headless
from worldsim.player.clip import check_clip_name
from worldsim.player.game import Folders, Game
from worldsim.worlds import list_worlds

WORLD = "worldsim/World-v0"  # any world, by name or folder
CLIPS = Path("worldsim_clips")
CLIP_SECONDS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim play`."""
    parser.add_argument("world", nargs="?", help="a shipped world or a folder (default: a menu, if there are several)")
    parser.add_argument("--steps", type=int, help="denoising steps a frame: 1, 2 or 4 (default: the world's own)")
    parser.add_argument("--fps", type=positive(float), help="full speed, frames per second (default: the game's own)")
    parser.add_argument("--scale", type=positive(int), help="screen pixels a game pixel (default: suits the screen)")
    parser.add_argument("--seed", type=natural, help="of the first round (default: a new one each time)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--record", type=Path, metavar="CLIP", help="an .mp4 or .gif to write, with a replay file beside it"
    )
    parser.add_argument("--headless", action="store_true", help="play without a window, the actions of --keys")
    parser.add_argument("--keys", help='with --headless: what to press, such as "right*10,up&fire*2,rest"')


def run(args: argparse.Namespace) -> int:
    """Open the window and play; without a screen say so in one line and record a clip instead."""
    # Threads that wait by spinning stall for seconds where another program wants the same cores. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if args.headless != (args.keys is not None):
        raise ValueError('--headless and --keys go together: worldsim play --headless --keys "right*10,fire"')
    if args.record is not None:
        check_clip_name(args.record)
    return _without_a_window(args) if args.headless else _in_a_window(args)


def _without_a_window(args: argparse.Namespace) -> int:
    world = args.world or _first(list_worlds())
    env = _load(args, world)
    try:
        session = headless.play(env, controls.scripted(args.keys, env.actions), seed=_seed(args))
        if args.record is not None:
            headless.write(session, args.record, world=world, device=args.device)
        print(headless.report(session))
    finally:
        env.close()
    return 0


def _in_a_window(args: argparse.Namespace) -> int:
    from worldsim.window import NoDisplay, open_display

    try:
        open_display()
    except NoDisplay as reason:
        print(f"worldsim play: no display ({reason}); recording a {CLIP_SECONDS}-second clip instead", file=sys.stderr)
        return record_instead(args)
    world = args.world or _chosen(list_worlds())
    if world is None:
        return 0
    print(f"loading {world} ...", file=sys.stderr)
    return _play(args, world)


def _play(args: argparse.Namespace, world: str) -> int:
    from worldsim.player.loop import run
    from worldsim.player.screen import Window

    env = _load(args, world)
    window = Window(env.model.info.name.title(), env.observation_space.shape[:2], env.actions, scale=args.scale)
    try:
        asked = {"world": world, "device": args.device, "fps": args.fps, "record": args.record}
        figures = run(Game(env, seed=_seed(args), folders=Folders(CLIPS), **asked), window)
    finally:
        window.close()
        env.close()
    if figures.latency_ms is not None and figures.late is not None:
        p50, p95 = figures.latency_ms
        print(f"key to picture {p50:.0f} ms (p50), {p95:.0f} ms (p95); {figures.late:.1%} of the frames late")
    return 0


def _load(args: argparse.Namespace, world: str):
    return gym.make(WORLD, world=world, steps=args.steps, device=args.device).unwrapped


def _seed(args: argparse.Namespace) -> int:
    return secrets.randbelow(10_000) if args.seed is None else args.seed


def _chosen(worlds: list[str]) -> str | None:
    """The world to play; None where the player leaves the menu."""
    from worldsim.player.menu import choose

    return choose(worlds) if len(worlds) > 1 else _first(worlds)


def _first(worlds: list[str]) -> str:
    if not worlds:
        raise FileNotFoundError("no world is shipped with this installation; give a folder that a training run wrote")
    return worlds[0]


def record_instead(args: argparse.Namespace) -> int:
    """Run the `record` command, found as the command line finds it, into ./worldsim_clips. Returns its exit status."""
    found = entry_points(group="worldsim.commands", name="record")
    if not found:
        raise ModuleNotFoundError("the record command is not installed; reinstall worldsim")
    record = next(iter(found)).load()
    parser = argparse.ArgumentParser(prog="worldsim record")
    record.add_arguments(parser)
    world = args.world or _first(list_worlds())
    out = args.record or CLIPS / f"{Path(world).name}.mp4"
    asked = [world, "--seconds", str(CLIP_SECONDS), "--out", str(out)]
    for option in ("seed", "steps", "device"):
        value = vars(args)[option]
        asked += [] if value is None else [f"--{option}", str(value)]
    return record.run(parser.parse_args(asked))
