"""The recorder of games: `python -m worldsim_training.collect game=boxing frames=100000 seed=0 out=FOLDER`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_death
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from tqdm import tqdm

from worldsim.names import did_you_mean
from worldsim_envs.games import Game, game_class
from worldsim_envs.real import plain
from worldsim_training.command_line import in_any_order
from worldsim_training.config import DataConfig
from worldsim_training.episodes import (
    META,
    SCHEMA,
    SPLITS,
    Episode,
    is_whole,
    looks_whole,
    read_meta,
    seeds_of,
    write_episode,
    write_meta,
)
from worldsim_training.provenance import IDENTITY, check_pictures

if TYPE_CHECKING:
    from worldsim_envs.pixel_policy import PixelPolicy

IsWhole = Callable[[Path, Mapping[str, Any]], bool]
"""Whether the file of an episode, of which meta.json has that entry, is whole in the recording's folder."""

SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}


@dataclass(frozen=True)
class CollectConfig:
    """What to record, and where."""

    out: str = MISSING
    """Folder of the dataset. One that holds the same recording is continued."""
    game: str = "boxing"
    frames: int = 100_000
    """Frames to record over all splits. Episodes are kept whole, so it becomes a few more."""
    seed: int = 0
    policies: list[str] = field(default_factory=list)
    """Policies that take turns, one an episode: names of the game's own, or folders that examples/ppo_boxing.py wrote;
    none named: all that the game has."""
    episode_steps: int = 0
    """Cut every episode after so many steps; 0: the game ends it."""
    workers: int = 0
    """Processes; 0: one per core. What is recorded does not depend on it."""


def collect(config: CollectConfig, game: type[Game]) -> dict[str, Any]:
    """Record episodes of `game` into `config.out` until each split has its share of frames; returns the meta.json.

    Every episode has a seed of its own, (seed, split, index), so the folder's bytes depend neither on the number of
    workers nor on kills and restarts. Raises ValueError for wrong settings or a folder that holds something else.
    """
    _check(config, game)
    folder = Path(config.out)
    description = _description(config, game)
    ledger = _Ledger(config, game, description, _kept_episodes(folder, description, game))
    write_meta(folder, ledger.meta(complete=False))
    with tqdm(total=config.frames, initial=ledger.frames(), unit="frame", desc=f"record {game.name}") as bar:
        _record_all(ledger, folder, config.workers or os.cpu_count() or 1, bar)
    for part in folder.rglob(".*.part"):
        part.unlink()  # what killed runs left
    meta = ledger.meta(complete=True)
    write_meta(folder, meta)
    return meta


def ensure(data: DataConfig, game: type[Game], whole: IsWhole = looks_whole) -> None:
    """Record what a world's settings ask for, unless the folder already holds the whole recording.

    Episodes that are not `whole` there are recorded again. A folder of rounds that somebody played is taken as it is.
    """
    folder, policies = Path(data.folder), list(data.policies)
    if (folder / META).is_file() and _is_asked_for(data, game, meta := read_meta(folder)):
        _, lost = _sift(folder, meta, whole)
        if not lost:
            return
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        said = f"warning: recording again what is missing or damaged: {folder / lost[0]['file']}{more}"
        tqdm.write(said, file=sys.stderr)
        policies = policies or [_untold(each) for each in meta["policies"]]
    wanted = {"frames": data.frames, "seed": data.seed, "episode_steps": data.episode_steps}
    try:
        collect(CollectConfig(out=data.folder, game=game.name, policies=policies, **wanted), game)
    except ValueError as error:
        hint = "set world.data.folder=, or world.data.frames= and world.data.seed= as they are there"
        raise ValueError(str(error).replace("choose another out=", hint)) from None


def record_episode(game: Game, policy: str, seed: tuple[int, ...], max_steps: int) -> Episode:
    """Play one episode to its end, or to `max_steps`. The seed decides everything: opening and policy."""
    opening_seed, policy_seed = seeds_of(seed)
    choose = _player(game, policy, np.random.default_rng(policy_seed))
    frames, actions, rewards, ended = [game.reset(opening_seed)], [], [], False
    while not ended and len(actions) < max_steps:
        actions.append(choose(frames[-1]))
        frame, reward, ended = game.step(actions[-1])
        frames.append(frame)
        rewards.append(reward)
    native = np.int64 if game.actions.table is not None else np.float32
    return Episode(np.stack(frames), np.array(actions, native), np.array(rewards, np.float32), ended)


def play_returns(
    game: type[Game], policy: str, seeds: Sequence[tuple[int, ...]], max_steps: int, workers: int = 0
) -> list[float]:
    """The return of an episode of each seed, played as `record_episode` does; workers: processes, 0: one per core."""
    with _executor(workers or os.cpu_count() or 1) as executor:
        jobs = [executor.submit(_return_of, game, policy, seed, max_steps) for seed in seeds]
        return [job.result() for job in tqdm(jobs, unit="episode", desc=f"{game.name}, {policy}")]


def _return_of(game: type[Game], policy: str, seed: tuple[int, ...], max_steps: int) -> float:
    with game() as running:
        return float(record_episode(running, policy, seed, max_steps).rewards.sum())


def _is_asked_for(data: DataConfig, game: type[Game], meta: dict[str, Any]) -> bool:
    """Whether a world's settings take the recording that meta.json tells of: theirs, or any that somebody played."""
    asked = {"game": game.name, "frames_asked": data.frames, "seed": data.seed}
    asked |= {"episode_steps": data.episode_steps, "complete": True}
    asked |= {"policies": [_told(each, game) for each in data.policies]} if data.policies else {}
    played = {"game": game.name, "played": True, "complete": True}
    return asked.items() <= meta.items() or played.items() <= meta.items()


def _player(game: Game, policy: str, rng: np.random.Generator) -> Callable[[np.ndarray], Any]:
    """How a policy chooses at the present frame (H, W, 3) uint8: one of the game's own sees the game, too."""
    if not _is_trained(policy, game):
        own = game.policies()[policy](rng)
        return lambda frame: own(game)
    from worldsim.cores import threads_of  # here, because they load torch
    from worldsim_envs.pixel_policy import PolicyPlayer

    trained = PolicyPlayer(_trained(policy, game), rng)

    def choose(frame: np.ndarray) -> Any:
        # What a network answers may hang, in its last bits, on how many threads share the work.
        with threads_of({"threads": 1}):
            return plain(trained(frame[None])[0])

    return choose


def _is_trained(policy: str, game: Game | type[Game]) -> bool:
    """Whether it is a folder's name, and none of the game's own policies'."""
    return policy not in game.policies() and Path(policy).is_dir()


def _trained(folder: str, game: Game | type[Game]) -> PixelPolicy:
    """The policy of a folder; FileNotFoundError or ValueError in one line where it is none or of another game."""
    from worldsim_envs.pixel_policy import PixelPolicy, check_policy

    policy = PixelPolicy.from_pretrained(folder)
    check_policy(policy, (game.height, game.width, 3), game.actions, folder)
    return policy


def _told(policy: str, game: type[Game]) -> str:
    """A policy in meta.json: its name, or its folder and what tells its weights from others'."""
    if not _is_trained(policy, game):
        return policy
    from worldsim_envs.pixel_policy import policy_hash

    return f"{policy} ({policy_hash(policy)[:12]})"


def _untold(told: str) -> str:
    """The name or folder of a policy that meta.json tells of."""
    return told.rpartition(" (")[0] or told


class _Ledger:
    """Which episodes are recorded, and which are still needed."""

    def __init__(
        self, config: CollectConfig, game: type[Game], description: dict[str, Any], kept: list[dict[str, Any]]
    ) -> None:
        self.config, self.game, self.description = config, game, description
        self.policies = config.policies or list(game.policies())
        self.max_steps = config.episode_steps or game.max_episode_steps
        self.entries = {_key(entry): entry for entry in kept}
        self.running: set[tuple[str, int]] = set()

    def next_job(self) -> tuple[str, int] | None:
        """(split, index) of an episode that is needed however long the running ones get; None while that is not sure.

        So no episode is recorded in vain, and which are recorded does not depend on how many run at once, nor on files
        that were lost: one with a later one after it was needed.
        """
        running = Counter(split for split, _ in self.running)
        for split in SPLITS:
            taken = {index for name, index in (*self.entries, *self.running) if name == split}
            index = next(index for index in range(len(taken) + 1) if index not in taken)
            most = self.frames(split) + running[split] * (self.max_steps + 1)
            if index < len(taken) or most < SHARES[split] * self.config.frames:
                return split, index
        return None

    def frames(self, split: str | None = None) -> int:
        """Frames recorded, in one split or in all."""
        return sum(entry["steps"] + 1 for entry in self.entries.values() if split in (None, entry["split"]))

    def meta(self, *, complete: bool) -> dict[str, Any]:
        """Contents of meta.json."""
        episodes = sorted(self.entries.values(), key=lambda entry: (SPLITS.index(entry["split"]), entry["file"]))
        return {
            **self.description,
            "complete": complete,
            "frames": self.frames(),
            "split_frames": {split: self.frames(split) for split in SPLITS},
            "episodes": episodes,
        }


def _key(entry: dict[str, Any]) -> tuple[str, int]:
    return entry["split"], entry["seed"][-1]


def _check(config: CollectConfig, game: type[Game]) -> None:
    for name, least in (("frames", 1), ("seed", 0), ("episode_steps", 0), ("workers", 0)):
        if getattr(config, name) < least:
            raise ValueError(f"{name}={getattr(config, name)} is too small; it must be at least {least}")
    for policy in config.policies:
        if _is_trained(policy, game):
            _trained(policy, game)
        elif policy not in game.policies():
            hint = did_you_mean(policy, game.policies())
            known = f"{game.name} has {', '.join(game.policies())}; or give a trained policy's folder"
            raise ValueError(f"unknown policy {policy!r}; {hint}{known}")


def _description(config: CollectConfig, game: type[Game]) -> dict[str, Any]:
    """The part of meta.json that is known before recording."""
    return {
        "schema": SCHEMA,
        **game.facts(),
        "seed": config.seed,
        "policies": [_told(policy, game) for policy in config.policies or game.policies()],
        "frames_asked": config.frames,
        "episode_steps": config.episode_steps,
    }


def _kept_episodes(folder: Path, description: dict[str, Any], game: type[Game]) -> list[dict[str, Any]]:
    """Entries of the episodes that an earlier run left whole. ValueError where the folder holds something else."""
    if not (folder / META).exists():
        if folder.exists() and any(path.suffix != ".part" for path in folder.iterdir()):
            raise ValueError(f"{folder} holds other files and no {META}; record into a new or empty folder")
        return []
    meta = read_meta(folder)
    for key in IDENTITY:
        if meta.get(key) != description[key]:
            difference = f"{key} is {meta.get(key)} there, {description[key]} here"
            raise ValueError(f"{folder} holds another recording: {difference}; choose another out=")
    kept, _ = _sift(folder, meta, is_whole)
    check_pictures(folder, meta | {"episodes": kept}, game)
    return kept


def _sift(folder: Path, meta: dict[str, Any], whole: IsWhole) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Entries of the episodes that are whole, and of those that are to be recorded again.

    ValueError where one of these was played by somebody.
    """
    kept, lost = [], []
    for entry in tqdm(meta["episodes"], desc=f"check {folder}", unit="episode", delay=1.0, leave=False):
        (kept if whole(folder, entry) else lost).append(entry)
    if played := [entry["file"] for entry in lost if not entry.get("replayable", True)]:
        seen = f"{folder / played[0]} is missing or damaged, and nobody plays it the same way again"
        raise ValueError(f"{seen}: put it back from a copy, or take its entry out of {folder / META}")
    return kept, lost


def _record_all(ledger: _Ledger, folder: Path, workers: int, bar: tqdm) -> None:
    pending: dict[futures.Future, tuple[str, int]] = {}
    with _executor(workers) as executor:
        while True:
            while len(pending) < workers and (job := ledger.next_job()):
                ledger.running.add(job)
                pending[_submit(executor, ledger, folder, job)] = job
            if not pending:
                return
            for future in futures.wait(pending, return_when=futures.FIRST_COMPLETED).done:
                job = pending.pop(future)
                ledger.entries[job] = future.result()
                ledger.running.remove(job)
                bar.update(ledger.entries[job]["steps"] + 1)
            write_meta(folder, ledger.meta(complete=False))


def _submit(executor: futures.Executor, ledger: _Ledger, folder: Path, job: tuple[str, int]) -> futures.Future:
    split, index = job
    policy = ledger.policies[index % len(ledger.policies)]
    seed = (ledger.config.seed, SPLITS.index(split), index)
    return executor.submit(_record_file, ledger.game, policy, seed, ledger.max_steps, folder)


def _record_file(game: type[Game], policy: str, seed: tuple[int, ...], max_steps: int, folder: Path) -> dict[str, Any]:
    """Record one episode to its file; returns its entry in meta.json. Runs in a worker."""
    with game() as running:
        episode = record_episode(running, policy, seed, max_steps)
    split = SPLITS[seed[1]]
    file = f"{split}/{seed[2]:06d}.npz"
    return {
        "file": file,
        "split": split,
        "policy": policy,
        "seed": list(seed),
        "steps": len(episode.actions),
        "return": float(episode.rewards.sum()),
        "rewarded_steps": int(np.count_nonzero(episode.rewards)),
        "ended": episode.ended,
        "sha256": write_episode(folder / file, episode),
    }


@contextmanager
def _executor(workers: int) -> Iterator[futures.Executor]:
    """Workers that end with this process, however it ends."""
    if workers == 1:
        executor: futures.Executor = futures.ThreadPoolExecutor(1)
    else:
        context = multiprocessing.get_context("spawn")
        executor = futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        wait_for_death([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


_SCHEMA = OmegaConf.structured(CollectConfig)
OmegaConf.set_readonly(_SCHEMA, False)  # frozen once composed; hydra still has to merge the command line
ConfigStore.instance().store(name="collect_config", node=_SCHEMA)
ConfigStore.instance().store(
    name="collect",
    node={
        "defaults": ["collect_config", "_self_", {"override hydra/job_logging": "disabled"}],
        "hydra": {"run": {"dir": "."}, "output_subdir": None},
    },
)


@in_any_order
@hydra.main(config_path=None, config_name="collect", version_base="1.3")
def main(settings: DictConfig) -> None:
    """Record a game from the command line; exits with one line where that cannot be done."""
    if OmegaConf.is_missing(settings, "out"):
        raise SystemExit("collect: say where to record: out=FOLDER")
    config = CollectConfig(**OmegaConf.to_container(settings))
    try:
        meta = collect(config, game_class(config.game))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"collect: {error}") from None
    except futures.BrokenExecutor:
        raise SystemExit("collect: a worker was killed; the same command continues the recording") from None
    except KeyboardInterrupt:
        raise SystemExit("collect: interrupted; the same command continues the recording") from None
    splits = ", ".join(f"{split} {frames}" for split, frames in meta["split_frames"].items())
    print(f"{meta['frames']} frames in {len(meta['episodes'])} episodes at {config.out} ({splits})")


if __name__ == "__main__":
    main()
