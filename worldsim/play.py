"""Play a world in a window, or without one from a script of keys.

    worldsim play                                          a menu of the shipped worlds, where there are several
    worldsim play boxing --record round.mp4                the clip, and beside it the replay file
    worldsim play --headless --keys "right*10,fire"        no window: prints the score
    worldsim play --headless --keys "up&fire*8,rest" --record clip.gif
    worldsim play boxing --start 3                         a start of the world's own; B goes to the next one
    worldsim play boxing --start data/boxing:test/0:120    frame 120 of a recorded episode
    worldsim play boxing --agent agent.zip                 M lets a trained agent play on
    worldsim play boxing --compile                         in native code, compiled the first time, some minutes
    worldsim play boxing --real --episodes data/mine       the real game; every round becomes an episode to train on

A keys file has sections [play] (channel = keys), [commands] (command = keys) and [mouse] (x, y = an axis channel):

    [play]
    fire = ["space", "j"]
    [commands]
    pause = ["p"]
    repaint = ["f2"]

Commands: quit, pause, single, slower, new, start, save, load, slot, 1, 2, 4, repaint, record, hands, condition, truth,
fork, swap, help, panel. A script names the world's actions or keys, & joins what is held together, * says for how many
frames. On a gamepad the left stick or the hat steers, the right trigger is the first pedal and the left one the second,
and the buttons press the rest.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from worldsim.arguments import add_compile, make_room_for, natural, positive
from worldsim.player import controls, headless, starts
from worldsim.player.clip import check_clip_name
from worldsim.player.episodes import EpisodeWriter
from worldsim.player.folders import Folders
from worldsim.player.game import Game
from worldsim.player.hands import Agent
from worldsim.player.undisturbed import undisturbed
from worldsim.worlds import list_worlds

if TYPE_CHECKING:
    from worldsim.player.screen import Window

WORLD = "worldsim/World-v0"  # any world, by name or folder
SOURCE = "worldsim/Source-v0"  # the real game of any world
CLIPS = Path("worldsim_clips")
CLIP_SECONDS = 20


WINDOWED = ("agent", "fps", "scale", "keys_file")
"""Options that say nothing where there is no window."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim play`."""
    parser.add_argument("world", nargs="?", help="a shipped world or a folder (default: a menu, if there are several)")
    parser.add_argument("--steps", type=int, help="denoising steps a frame: 1, 2 or 4 (default: the world's own)")
    parser.add_argument("--fps", type=positive(float), help="full speed, frames per second (default: the game's own)")
    parser.add_argument("--scale", type=positive(int), help="screen pixels a game pixel (default: suits the screen)")
    parser.add_argument("--seed", type=natural, help="of the first round (default: a new one each time)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add_compile(parser)
    parser.add_argument(
        "--record", type=Path, metavar="CLIP", help="an .mp4, .gif or .webp to write, with a replay file beside it"
    )
    parser.add_argument("--start", help="a number, or DATASET[:SPLIT/NUMBER[:FRAME]] (default: drawn from the seed)")
    parser.add_argument("--agent", help="who plays when M is pressed: noop, actions.json, agent.py or agent.zip (SB3)")
    parser.add_argument("--real", action="store_true", help="play the real game, where it is installed")
    parser.add_argument("--game", help="your own adapter of the real game, as module:Class (default: a known one)")
    parser.add_argument("--episodes", type=Path, metavar="FOLDER", help="keep every round as an episode of a dataset")
    own = "your own keys, as toml (default: worldsim/keys.toml in the user's configuration folder)"
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help=own)
    parser.add_argument("--headless", action="store_true", help="play without a window, the actions of --keys")
    parser.add_argument("--keys", help='with --headless: what to press, such as "right*10,up&fire*2,rest"')


def run(args: argparse.Namespace) -> int:
    """Open the window and play; without a screen say so in one line and record a clip instead."""
    # Threads that wait by spinning stall for seconds where another program wants the same cores. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if args.headless != (args.keys is not None):
        raise ValueError('--headless and --keys go together: worldsim play --headless --keys "right*10,fire"')
    if args.real and (args.compile or args.steps is not None or args.device != "cpu"):
        raise ValueError("--steps, --device and --compile are for imagined worlds; the real game has no network")
    if args.headless and (unheard := [name for name in WINDOWED if getattr(args, name) is not None]):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in unheard)
        raise ValueError(f"--headless plays the actions of --keys at once, without a window; leave out {options}")
    if args.record is not None:
        check_clip_name(args.record)
        make_room_for(args.record)
    return _without_a_window(args) if args.headless else _in_a_window(args)


def _without_a_window(args: argparse.Namespace) -> int:
    world = args.world or _first(list_worlds())
    env = _load_real(args, world) if args.real else _load(args, world)
    try:
        given = _extras(args, world, env)
        past = None if args.real else given["starts"].present().past
        session = headless.play(env, controls.scripted(args.keys, env.actions), seed=_seed(args), past=past)
        if args.record is not None:
            headless.write(session, args.record, world=world, device=args.device, replay=not args.real)
        if given["episodes"] is not None:
            given["episodes"].add(session.timeline, "script")
        print(headless.report(session))
        if args.record is not None:
            print(f"clip: {args.record}")
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

    args.world = world
    game, window = open_game(args)
    try:
        with undisturbed():
            figures = run(game, window)
    finally:
        window.close()
        game.env.close()
    if figures.latency_ms is not None and figures.late is not None:
        p50, p95 = figures.latency_ms
        print(f"key to picture {p50:.0f} ms (p50), {p95:.0f} ms (p95); {figures.late:.1%} of the frames late")
    return 0


def open_game(args: argparse.Namespace) -> tuple[Game, Window]:
    """The game that the arguments ask for, and its window."""
    from worldsim.player import keymap
    from worldsim.player.screen import Window

    env = _load_real(args, args.world) if args.real else _load(args, args.world)
    if not args.real:
        from worldsim.cores import spare_cores  # here, because it loads torch

        spare_cores(env, args.fps)
    keys = keymap.load(args.keys_file, env.actions)
    shape = env.observation_space.shape[:2]
    window = Window(env.model.info.title, shape, env.actions, scale=args.scale, keymap=keys)
    asked = {"world": args.world, "device": args.device, "fps": args.fps, "record": args.record}
    asked["actions"] = keys.actions
    try:
        return Game(env, seed=_seed(args), folders=Folders(CLIPS), **asked, **_extras(args, args.world, env)), window
    except BaseException:
        window.close()
        env.close()
        raise


def _extras(args: argparse.Namespace, world: str, env) -> dict[str, Any]:
    """What else a game is given: where it begins, who can take over, the real game, where episodes go."""
    if args.real and args.start is not None:
        raise ValueError("--start is for imagined worlds; the real game begins at moments of its own")
    facts = env.facts() if args.real or args.episodes else {}
    return {
        "starts": None if args.real else starts.chosen(args.start, env),
        "load_agent": _agent_loader(args, env),
        "open_real": None if args.real else lambda: _load_real(args, world),
        "episodes": EpisodeWriter(args.episodes, facts, "real" if args.real else "imagined") if args.episodes else None,
        "real": args.real,
        "drift": not args.real,
    }


def _agent_loader(args: argparse.Namespace, env) -> Callable[[], Agent] | None:
    if args.agent is None:
        return None
    rng, load = np.random.default_rng(_seed(args)), _command("record").load_agent
    return lambda: load(args.agent, env, rng)


def _load(args: argparse.Namespace, world: str):
    asked = {"steps": args.steps, "device": args.device, "compile": args.compile}
    return gym.make(WORLD, world=world, **asked).unwrapped


def _load_real(args: argparse.Namespace, world: str):
    return gym.make(SOURCE, world=world, game=args.game).unwrapped


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
    if kept := [f"--{name}" for name in ("episodes", "start") if getattr(args, name) is not None]:
        raise OSError(f"no display for {' and '.join(kept)}; give one, or play with --headless --keys")
    record = _command("record")
    parser = argparse.ArgumentParser(prog="worldsim record")
    record.add_arguments(parser)
    world = args.world or _first(list_worlds())
    out = args.record or CLIPS / f"{Path(world).name}.mp4"
    asked = [world, "--seconds", str(CLIP_SECONDS), "--out", str(out)]
    for option in ("seed", "steps", "device", "agent", "game"):
        value = vars(args)[option]
        asked += [] if value is None else [f"--{option}", str(value)]
    asked += [f"--{option}" for option in ("compile", "real") if vars(args)[option]]
    return record.run(parser.parse_args(asked))


def _command(name: str):
    """The module of another command, found as the command line finds it."""
    found = entry_points(group="worldsim.commands", name=name)
    if not found:
        raise ModuleNotFoundError(f"the {name} command is not installed; reinstall worldsim")
    return next(iter(found)).load()
