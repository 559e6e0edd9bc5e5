"""A clip and a contact sheet of a world, beside its source game where that is installed.

The world starts after moments that the real game reached under random play; from there both get the same actions, and
nothing else of the real game reaches the world. With --real the real game alone is filmed, and the agent looks at it,
as one that learnt in the world is tried. Agents: `random` (held 1 to 8 frames), `noop`, another of the policies that
recordings are made by, such as take_cover's `dodger`, who knows the real game's state, a .json file with a list of the
game's own actions (repeated from its start), a .py file that defines act(observation, rng) -> action, where
observation is the frame on the screen (H, W, 3) uint8 and rng a numpy Generator, and, if it remembers, reset(), which
is called before each new scene; the .zip of Stable-Baselines3's PPO or A2C, or the folder of a policy that
examples/ppo_boxing.py has trained.

The clip is an .mp4, a .gif or a .webp. An mp4 is H.264 in yuv420p, which every common player opens; at an even scale
each game pixel covers whole chroma samples, so that its colour stays sharp.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from worldsim.action import ActionSpec
from worldsim.arguments import add_compile, make_room_for, natural, positive
from worldsim.player.clip import check_clip_name, whole, write_film
from worldsim.player.hands import forget
from worldsim.replay import Replay, Round
from worldsim_envs.agents import Agent, load_agent
from worldsim_envs.env import WorldEnv
from worldsim_envs.games import Game, matching_game
from worldsim_envs.games.base import Policy, PolicyFactory
from worldsim_envs.games.past import real_past
from worldsim_envs.pictures import Column, clip_frame, contact_sheet
from worldsim_envs.real import plain

REAL, IMAGINED = "real", "imagined"
SHEET_COLUMNS, SHEET_SCALE = 8, 3
FIRST_STEPS = (0, 1, 2, 4, 6, 8, 12, 16)  # the sheet's first band: one-step precision first, then drift


@dataclass
class Scene:
    """One start and what followed: frames by label, each list one longer than the actions; rewards by label."""

    frames: dict[str, list[np.ndarray]]
    rewards: dict[str, list[float]]
    actions: list[Any] = field(default_factory=list)
    seed: int = 0
    past: dict[str, np.ndarray] | None = None
    """The reset options `frames` and `actions`, where the start is the real game's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim record`."""
    parser.add_argument("world", nargs="?", default="boxing", help="a shipped world or a folder (default: boxing)")
    parser.add_argument(
        "--agent",
        default="random",
        help="random, noop, a policy of the game's recordings, actions.json, agent.py, agent.zip or a policy's folder"
        " (default: random)",
    )
    parser.add_argument("--seconds", type=positive(float), default=20.0, help="length of the clip (default: 20)")
    parser.add_argument(
        "--out", type=Path, default=Path("clip.mp4"), help="the clip: .mp4, .gif or .webp (default: clip.mp4)"
    )
    parser.add_argument("--sheet", type=Path, help="the contact sheet (default: beside the clip, as .png)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="write a replay file of the session here too")
    parser.add_argument("--real", action="store_true", help="the real game alone, where it is installed")
    parser.add_argument("--seed", type=natural, default=0, help="of start, agent and noise (default: 0)")
    parser.add_argument("--steps", type=int, help="denoising steps a frame: 1, 2 or 4 (default: the world's own)")
    parser.add_argument("--scale", type=_even, default=6, help="clip pixels a game pixel, even, 2..16 (default: 6)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add_compile(parser)
    parser.add_argument("--game", help="your own adapter of the real game, as module:Class (default: a known one)")


def run(args: argparse.Namespace) -> int:
    """Film the world, write the clip and the sheet, print their paths. Interrupted, it says which of them are kept."""
    kept: list[Path] = []
    try:
        kept.extend(_record(args))
    except KeyboardInterrupt:
        told = f"{' and '.join(map(str, kept))} kept, the sheet not written" if kept else f"{args.out} not written"
        print(f"worldsim record: interrupted; {told}", file=sys.stderr)
        return 130
    print(f"clip:  {kept[0]}\nsheet: {kept[-1]}")
    return 0


def _record(args: argparse.Namespace) -> Iterator[Path]:
    """The files of a recording, each once it is written: the clip, the replay where one is wanted, the sheet."""
    sheet = args.sheet or args.out.with_suffix(".png")
    check_clip_name(args.out)
    if sheet.suffix != ".png":
        raise ValueError(f"cannot write {str(sheet)!r}; give a name that ends in .png")
    if args.real and args.replay is not None:
        raise ValueError("a replay file holds an imagined session; leave out --replay or --real")
    if args.real and (args.compile or args.steps is not None):
        raise ValueError("--steps and --compile are for imagined worlds; leave them out, or --real")
    env = WorldEnv(args.world, steps=args.steps, device=args.device, compile=args.compile)
    starts_rng, agent_rng = np.random.default_rng(args.seed).spawn(2)
    insiders = _insiders(env, args.game)
    insider = insiders.get(args.agent)
    agent = None if insider else load_agent(args.agent, env, agent_rng, others=insiders)
    for path in (args.out, sheet):
        make_room_for(path)
    length = max(round(args.seconds * env.metadata["render_fps"]), 1)
    with _source_game(env, args.game, needed=bool(args.real or args.game or insider)) as game:
        if insider:
            agent = _looking_at(game, insider(agent_rng))
        scenes = film(env, game, agent, length, starts_rng, imagined=not args.real)
    write_clip(args.out, scenes, env, args.scale)
    yield args.out
    if args.replay is not None:
        session(scenes, env, args.world, args.device).save(args.replay)
        yield args.replay
    longest = max(scenes, key=lambda scene: len(scene.actions))
    write_sheet(sheet, longest, env, f"Agent {Path(args.agent).name}, seed {args.seed}")
    yield sheet


def film(
    env: WorldEnv, game: Game | None, agent: Agent, length: int, rng: np.random.Generator, *, imagined: bool = True
) -> list[Scene]:
    """Play `length` frames in the world, in the real game where `game` is given, or in both under the same actions.

    The agent looks at the imagined frames, or at the real ones where there are no others. Where either ends its episode
    a new scene begins. Equal generators give equal scenes.
    """
    scenes: list[Scene] = []
    with tqdm(total=length, desc="recording", unit="frame") as progress:
        while progress.n < length:
            scenes.append(_begin(env, game, rng, imagined))
            forget(agent)
            ended = False
            while progress.n < length and not ended:
                ended = _continue(scenes[-1], env, game, agent)
                progress.update()
    return scenes


def session(scenes: Sequence[Scene], env: WorldEnv, world: str, device: str) -> Replay:
    """The imagined half of the scenes as a replay."""
    rounds = [Round.of(scene.seed, scene.actions, scene.frames[IMAGINED], scene.past) for scene in scenes]
    return Replay.of(env, rounds, world, device=device)


def write_clip(path: Path, scenes: Sequence[Scene], env: WorldEnv, scale: int) -> None:
    """Write the scenes one after another, as `write_film` does, at the world's frame rate."""
    pictures = [picture for scene in scenes for picture in _pictures(scene, env.actions, scale)]
    with tqdm(pictures, desc="encoding", unit="frame") as progress:
        write_film(path, progress, env.metadata["render_fps"])


def write_sheet(path: Path, scene: Scene, env: WorldEnv, origin: str) -> None:
    """Write the contact sheet of a scene: its first 16 frames one by one, then the whole way to its end."""
    fps, name = env.metadata["render_fps"], env.model.info.title
    steps = f"{env.steps} denoising steps a frame, " if IMAGINED in scene.frames else ""
    title, facts = f"{name}, {' and '.join(scene.frames)}", f"{origin}, {steps}{fps} frames a second."
    if len(scene.frames) > 1:
        title = f"{name}: real frames above, imagined ones below"
        facts = f"Both get the same actions; the world sees no real frame after the start. {facts}"
    bands = [[_column(scene, step, env.actions, fps) for step in band] for band in _sheet_steps(len(scene.actions))]
    with whole(path) as part:
        contact_sheet(bands, title, facts, SHEET_SCALE).save(part, optimize=True)


def _insiders(env: WorldEnv, own: str | None) -> Mapping[str, PolicyFactory]:
    """The policies that recordings of the world's real game are made by, but `random`, which any world has."""
    try:
        policies = _game_type(env, own).policies()
    except (ValueError, ModuleNotFoundError):
        if own is not None:
            raise
        return {}
    return {name: policy for name, policy in policies.items() if name != "random"}


def _game_type(env: WorldEnv, own: str | None) -> type[Game]:
    info = env.model.info
    return matching_game(info.env_id, (info.height, info.width), env.actions, own)


def _looking_at(game: Game, policy: Policy) -> Agent:
    """A policy as an agent: it looks at the real game where others look at a frame."""
    return lambda frame: policy(game)


@contextmanager
def _source_game(env: WorldEnv, own: str | None, *, needed: bool) -> Iterator[Game | None]:
    """The world's real game, as the user's own adapter where one is named.

    Where the game cannot be had: its error if it is needed, else None and one line that says why.
    """
    try:
        game = _game_type(env, own)()
    except (ValueError, ModuleNotFoundError) as error:
        if needed:
            raise
        print(f"no real frames beside the imagined ones: {error}", file=sys.stderr)
        yield None
        return
    with game:
        yield game


def _begin(env: WorldEnv, game: Game | None, rng: np.random.Generator, imagined: bool) -> Scene:
    """Start the world, and the real game before it, at the same moment; or the real game alone."""
    seed = int(rng.integers(2**31))
    if game is None:
        frame, _ = env.reset(seed=seed)
        return Scene({IMAGINED: [frame]}, {IMAGINED: []}, seed=seed)
    frames, actions = real_past(game, env.model.info.window_frames, rng)
    if not imagined:
        return Scene({REAL: [frames[-1]]}, {REAL: []}, seed=seed)
    past = {"frames": frames, "actions": actions}
    frame, _ = env.reset(seed=seed, options=past)
    return Scene({REAL: [frames[-1]], IMAGINED: [frame]}, {REAL: [], IMAGINED: []}, seed=seed, past=past)


def _continue(scene: Scene, env: WorldEnv, game: Game | None, agent: Agent) -> bool:
    """Add one frame to a scene. Returns whether it ends here."""
    action = agent(scene.frames[IMAGINED if IMAGINED in scene.frames else REAL][-1])
    env.actions.encode(action)  # before either game takes it: ValueError in one line where it is none of theirs
    action = plain(action)
    outcomes = {}
    if REAL in scene.frames:
        outcomes[REAL] = game.step(action)
    if IMAGINED in scene.frames:
        frame, reward, terminated, truncated, _ = env.step(action)
        outcomes[IMAGINED] = frame, reward, terminated or truncated
    scene.actions.append(action)
    for label, (frame, reward, _) in outcomes.items():
        scene.frames[label].append(frame)
        scene.rewards[label].append(reward)
    return any(ended for _, _, ended in outcomes.values())


def _pictures(scene: Scene, spec: ActionSpec, scale: int) -> Iterator[np.ndarray]:
    """The clip's pictures of a scene, one for each frame after the start."""
    scores = dict.fromkeys(scene.frames, 0.0)
    for step, action in enumerate(scene.actions, start=1):
        for label in scores:
            scores[label] += scene.rewards[label][step - 1]
        labels = {f"{label}   score {_signed(scores[label])}": frames[step] for label, frames in scene.frames.items()}
        yield clip_frame(labels, f"frame {step}   {spec.label(action)}", scale)


def _column(scene: Scene, step: int, spec: ActionSpec, fps: int) -> Column:
    frames = {label: frames[step] for label, frames in scene.frames.items()}
    if step == 0:
        return Column("start", "", frames)
    return Column(f"step {step}   {step / fps:.2f} s", spec.label(scene.actions[step - 1]), frames)


def _sheet_steps(length: int) -> list[list[int]]:
    """Steps of the sheet's bands, for a scene of `length` steps."""
    first = [step for step in FIRST_STEPS if step <= length]
    if length < FIRST_STEPS[-1] + SHEET_COLUMNS:
        return [first]
    even = np.linspace(FIRST_STEPS[-1], length, SHEET_COLUMNS + 1)[1:]
    return [first, [round(step) for step in even]]


def _signed(score: float) -> str:
    return f"{score:+g}" if score else "0"


def _even(text: str) -> int:
    value = int(text)
    if value % 2 or not 2 <= value <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not an even number from 2 to 16")
    return value
