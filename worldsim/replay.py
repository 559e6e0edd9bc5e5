"""A recorded session: seeds and actions, from which a world paints the same frames again.

    worldsim record boxing --replay session.json
    worldsim replay session.json             what it holds
    worldsim replay session.json --show      paints it again in a window, until Esc
    worldsim replay session.json --check     paints it again and compares every frame

A network's arithmetic differs in its last bits between kinds of processors, numbers of threads and versions of torch,
so the same bytes are promised where those are the same. The file names them, and a check says which of them differ. It
paints with the session's number of threads, and with the engine that painted it: "plain", "packed" or "compiled".
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image
from tqdm import tqdm

from worldsim import __version__
from worldsim.bench import describe_machine
from worldsim.cores import threads_of
from worldsim.world_model import WorldModel

SCHEMA = 2  # the first drew its noise from another generator
WORLD = "worldsim/World-v0"  # any world, by name or folder
ROLE = ("fixed", "channel_actions")  # arguments of an environment that say what its actions mean
ENGINE = "engine"  # the entry of `Replay.machine` that says what painted
NEEDED = {
    "plain": "a world after `play_plain()`",
    "packed": "a CPU with bfloat16 kernels, and a world loaded without compile",
    "compiled": "a C++ compiler, a CPU with bfloat16 kernels, and a world loaded with compile=True",
}
"""Engine -> what it takes to paint with it."""


@dataclass(frozen=True)
class Round:
    """One episode, or the part of it that was played."""

    seed: int
    actions: list[Any]
    """The source game's own actions, as plain numbers."""
    sha256: str
    """Of the bytes of all observations, that of the reset first."""
    past: dict[str, Any] | None = None
    """The frames that the world was told to go on from, as one PNG in base64, and the actions between them."""
    steps: list[int] | None = None
    """Denoising steps of each frame, where they are not the session's."""
    conditions: dict[str, str] | None = None
    """Group -> value of what was asked to hold from the first step on; None where the past decided."""
    changes: list[list[Any]] | None = None
    """What was set to hold while playing: [index of the action before which, {group: value}] each; None for nothing."""

    @classmethod
    def of(
        cls,
        seed: int,
        actions: Sequence,
        observations: Iterable[np.ndarray],
        past: dict | None = None,
        *,
        steps: Sequence[int] | None = None,
        conditions: Mapping[str, str] | None = None,
        changes: Iterable[tuple[int, Mapping[str, str]]] = (),
    ) -> Round:
        """The round in which these actions led to these observations, one more than actions.

        past: the reset options `frames` (K, H, W, 3) uint8 and `actions`, where the caller gave them.
        steps: denoising steps of each frame, where they changed while playing.
        conditions: the reset option of that name, where the caller gave it.
        changes: what `env.conditions` was set to while playing, with the index of the action that came next.
        """
        stored = None if past is None else {"png": _to_png(past["frames"]), "actions": _plain(past["actions"])}
        told = [_plain(action) for action in actions]
        kept = None if conditions is None else dict(conditions)
        changed = [[int(index), dict(holds)] for index, holds in changes]
        return cls(int(seed), told, digest(observations), stored, list(steps) if steps else None, kept, changed or None)

    def observations(self, env: gym.Env) -> Iterator[np.ndarray]:
        """Play the round in `env`: each observation as it is painted, as far as the episode goes."""
        yield env.reset(seed=self.seed, options=self._options())[0]
        usual, changes = env.unwrapped.steps, dict(self.changes or ())
        try:
            for index, action in enumerate(self.actions):
                if self.steps:
                    env.unwrapped.steps = self.steps[index]
                if index in changes:
                    env.unwrapped.conditions = changes[index]
                observation, _, terminated, truncated, _ = env.step(np.asarray(action))
                yield observation
                if terminated or truncated:
                    return
        finally:
            env.unwrapped.steps = usual

    def _options(self) -> dict[str, Any]:
        options = {} if self.conditions is None else {"conditions": self.conditions}
        if self.past is None:
            return options
        actions = self.past["actions"]
        return options | {"frames": _from_png(self.past["png"], len(actions) + 1), "actions": actions}


@dataclass(frozen=True)
class Replay:
    """A session: what was played, in which world, and on what machine."""

    world: str
    """Name of a shipped world, or a folder."""
    checkpoint: str
    """Fingerprint of the world's weights."""
    steps: int
    """Denoising steps a frame."""
    rounds: list[Round]
    machine: dict[str, Any]
    version: str = __version__
    role: dict[str, Any] | None = None
    """The environment's `fixed` and `channel_actions`, where given: the actions are then not the world's own."""

    @classmethod
    def of(cls, env: gym.Env, rounds: Sequence[Round], world: str, *, device: str = "cpu") -> Replay:
        """The session that was played in `env`, a `WorldEnv`. world: its shipped name or folder; device: it was on."""
        model, role = env.unwrapped.model, env.unwrapped.rules.role
        part = {name: value for name in ROLE if (value := getattr(role, name))}
        told = describe(model, device)
        return cls(world, model.fingerprint, env.unwrapped.steps, [*rounds], told, role=part or None)

    def environment(self, model: WorldModel) -> gym.Env:
        """An environment of that world, in which the rounds' actions mean what they meant."""
        env = gym.make(WORLD, world=model, steps=self.steps, **(self.role or {}))
        env.unwrapped.rules.limit = None  # the rounds say how far they went
        return env

    def save(self, path: str | Path) -> None:
        """Write one JSON file."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Replay:
        """What `save` wrote; ValueError in one line for any other file."""
        try:
            stored = dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"'{path}' is no replay file; `worldsim record --replay FILE` writes one") from None
        schema = stored.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"replay file '{path}' has schema {schema!r}; this worldsim reads {SCHEMA}")
        try:
            rounds = [Round(**each) for each in stored.pop("rounds")]
            if not all(type(each.seed) is int and each.seed >= 0 and type(each.actions) is list for each in rounds):
                raise ValueError("a round needs a seed from 0 and a list of actions")
            if any(each.steps and len(each.steps) != len(each.actions) for each in rounds):
                raise ValueError("a round with steps needs one number for each action")
            if not all(each.conditions is None or type(each.conditions) is dict for each in rounds):
                raise ValueError("a round's conditions are a value for each group, as {'npc': 'timid'}")
            if not all(_are_changes(each.changes, len(each.actions)) for each in rounds):
                raise ValueError("a round's changes are pairs of index and conditions, as [8, {'npc': 'timid'}]")
            if type(stored.get("machine")) is not dict or type(stored.get("checkpoint")) is not str:
                raise ValueError("it names no machine or no checkpoint")
            if not all(each.past is None or _is_past(each.past) for each in rounds):
                raise ValueError("a round's past is a png and the actions between its frames")
            if not set(stored.get("role") or ()) <= {*ROLE}:
                raise ValueError(f"a role has {' and '.join(ROLE)}")
            return cls(rounds=rounds, **stored)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"replay file '{path}' is damaged: {error}; record it again") from None

    def frames(self) -> int:
        """Number of frames that were painted."""
        return sum(len(each.actions) for each in self.rounds)

    def check_world(self, model: WorldModel) -> None:
        """ValueError in one line where the world's weights are not those of the session."""
        if model.fingerprint != self.checkpoint:
            seen, here = (mark[:12] or "(never saved)" for mark in (self.checkpoint, model.fingerprint))
            raise ValueError(f"this replay is of checkpoint {seen}, this world is {here}; give the world it is of")

    def load_world(self, name_or_path: str | Path | None = None, *, device: str = "cpu") -> WorldModel:
        """The session's world, played by the engine that painted the session, where this machine has it.

        name_or_path: where the world is now; None: where it was. ValueError in one line where its weights are others.
        """
        model = WorldModel.from_pretrained(name_or_path or self.world, device=device)
        self.check_world(model)
        painted_by = self.machine.get(ENGINE)
        if painted_by == "plain":
            model.play_plain()
        elif painted_by == "compiled":
            model.play_compiled()
        return model

    def check_engine(self, model: WorldModel) -> None:
        """ValueError in one line where another engine paints than did in the session; a file may name none."""
        painted_by = self.machine.get(ENGINE, model.engine)
        if painted_by != model.engine:
            needed = NEEDED.get(painted_by, "the worldsim that wrote it")
            raise ValueError(
                f"this replay was painted by the {painted_by} engine, here paints the {model.engine} one, whose last "
                f"bits are others; to check it takes {needed}"
            )

    def check(self, env: gym.Env, *, progress: bool = False) -> list[int]:
        """Play all rounds in `env` and return the indices of those whose frames are not the recorded ones.

        Raises ValueError in one line where the environment's weights or its engine are others.
        """
        self.check_world(env.unwrapped.model)
        self.check_engine(env.unwrapped.model)
        wrong = []
        with tqdm(total=self.frames(), unit="frame", desc="replay", disable=not progress) as bar:
            for index, each in enumerate(self.rounds):
                if digest(each.observations(env)) != each.sha256:
                    wrong.append(index)
                bar.update(len(each.actions))
        return wrong


def describe(model, device: str) -> dict[str, Any]:
    """What the bytes of a frame may depend on: processor, device, versions, precision, threads and engine."""
    import torch

    dtype = str(model.denoiser.dtype).removeprefix("torch.")
    return describe_machine(device) | {"dtype": dtype, "threads": torch.get_num_threads(), ENGINE: model.engine}


def digest(observations: Iterable[np.ndarray]) -> str:
    """SHA-256 of the bytes of uint8 pictures, one after another."""
    total = hashlib.sha256()
    for observation in observations:
        total.update(np.ascontiguousarray(observation))
    return total.hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim replay`."""
    parser.add_argument("file", type=Path, help="a replay file, as `worldsim record --replay FILE` writes it")
    parser.add_argument("--show", action="store_true", help="paint it again in a window, at the game's own speed")
    parser.add_argument("--check", action="store_true", help="paint it again and compare the frames' hashes")
    parser.add_argument("--world", help="the world's folder, where it is not where it was")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Say what a replay file holds; with --show or --check paint it again, 1 where a checked frame is another one."""
    replay = Replay.load(args.file)
    print(f"{replay.world}: {len(replay.rounds)} rounds, {replay.frames()} frames, {replay.steps} denoising steps,")
    print(f"worldsim {replay.version}, checkpoint {replay.checkpoint[:12]}, {replay.machine.get('cpu', 'unknown')}")
    if not (args.show or args.check):
        print("replay: nothing was painted; --show does so in a window, --check compares every frame", file=sys.stderr)
        return 0
    with threads_of(replay.machine):
        env = replay.environment(replay.load_world(args.world, device=args.device))
        if args.show:
            show(replay, env)
        return _checked(replay, env, args.device) if args.check else 0


def show(replay: Replay, env: gym.Env) -> None:
    """Paint all rounds in a window, at the game's own speed; the last frame stays until the window is left.

    OSError in one line where there is no screen.
    """
    from worldsim.window import NoDisplay, Viewer  # here, because it needs pygame

    title = f"worldsim: replay of {env.unwrapped.model.info.title}   Esc quit"
    shape = env.observation_space.shape[:2]
    try:
        viewer = Viewer(title, shape, env.metadata["render_fps"])
    except NoDisplay as reason:
        raise OSError(f"no display ({reason}); `worldsim render FILE --track realtime` makes a film of it") from None
    frame = np.zeros((*shape, 3), np.uint8)
    try:
        for frame in chain.from_iterable(each.observations(env) for each in replay.rounds):
            viewer.show(frame)
            if viewer.left():
                return
        while not viewer.left():
            viewer.show(frame)
    finally:
        viewer.close()


def _checked(replay: Replay, env: gym.Env, device: str) -> int:
    """Compare every frame with the session's and tell; 0 where all are the same."""
    wrong = replay.check(env, progress=True)
    if not wrong:
        print("the same frames, to the byte")
        return 0
    here = describe(env.unwrapped.model, device)
    other = [f"{name} {replay.machine.get(name)!r} -> {value!r}" for name, value in here.items()]
    other = [line for line, name in zip(other, here, strict=True) if here[name] != replay.machine.get(name)]
    reason = f"; this machine is another: {', '.join(other)}" if other else ", though the machine is the same"
    print(f"replay: other frames in round {', '.join(str(index + 1) for index in wrong)}{reason}", file=sys.stderr)
    return 1


def _is_past(past: Any) -> bool:
    return type(past) is dict and type(past.get("png")) is str and type(past.get("actions")) is list


def _are_changes(changes: Any, actions: int) -> bool:
    return changes is None or (
        type(changes) is list
        and all(
            type(each) is list and len(each) == 2 and each[0] in range(actions) and type(each[1]) is dict
            for each in changes
        )
    )


def _plain(action: Any) -> Any:
    return np.asarray(action).tolist()


def _to_png(frames: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _from_png(text: str, count: int) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        sheet = np.asarray(image.convert("RGB"))
    return np.stack(np.split(sheet, count, axis=1))
