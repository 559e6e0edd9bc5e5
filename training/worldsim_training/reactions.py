"""The reader of reactions: what an NPC of Encounter does in each frame of a video, real or imagined.

    python -m worldsim_training.reactions --out reactions.safetensors

trains a small network on episodes that are played on the spot and scores it on others; or, with `--data FOLDER`, on the
train and the test split of a recording.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from worldsim.arguments import make_room_for
from worldsim_envs.encounter.rules import MOST_DELAY, REACTIONS
from worldsim_envs.encounter.scene import Reaction
from worldsim_envs.games.encounter import Encounter
from worldsim_training.collect import record_episode
from worldsim_training.episodes import SPLITS, Episode, read_episode, read_meta, seeds_of

LABELS = ("idle", *REACTIONS)
BEFORE, AFTER = 1, 3
"""Frames of the window around the frame that is read: a pose may take some frames to be unlike all others."""
WINDOW = BEFORE + 1 + AFTER
SLACK = 2
"""Frames after the latest possible onset in which an answer is still looked for."""
EPISODES, STEPS = 200, 1500
"""Played for the training of a reader, and updates on them."""
HELD_OUT = 60
"""Episodes on which it is scored, about 550 answers."""
LEAST_ACCURACY = 0.98
"""Share of those answers that it must read rightly."""
CHANGE_SPAN = 3
"""Frames before and after a change of act that are the hardest to read."""
LOOKED_AT = MOST_DELAY + SLACK + 1
"""Frames after a gesture's first one that decide whether and how it is answered."""


class ReactionReader(nn.Module):
    """A convolutional network from windows (B, WINDOW, 3, 64, 64) uint8 to scores (B, len(LABELS))."""

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        sizes = (3 * WINDOW, *widths)
        layers = []
        for inner, outer in zip(sizes, widths, strict=False):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(8, outer), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], len(LABELS))

    def forward(self, windows: Tensor) -> Tensor:
        x = self.body(windows.flatten(1, 2).float() / 127.5 - 1)
        return self.head(torch.cat((x.amax(dim=(2, 3)), x.mean(dim=(2, 3))), dim=1))

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> np.ndarray:
        """Index into `LABELS` of what the NPC does in each of the frames (T, 64, 64, 3) uint8: (T,) int64."""
        windows = cut_windows(frames, np.arange(len(frames)))
        return torch.cat([self(part).argmax(dim=1) for part in windows.split(256)]).numpy()


@dataclass(frozen=True)
class Labelled:
    """A recorded episode and what is known of it: labels (T,) int64 of its frames, -1 where the NPC is driven."""

    frames: np.ndarray
    labels: np.ndarray
    answers: tuple[Reaction, ...]
    """Those to gestures that met the NPC idle and have `LOOKED_AT` frames after them."""


def label_episode(episode: Episode, seed: list[int]) -> Labelled:
    """Play a recorded episode again and note what the NPC does. seed: the episode's own, from meta.json.

    Raises ValueError where the game does not show what was recorded.
    """
    game = Encounter()
    frame, labels, answers = game.reset(seeds_of(seed)[0]), [0], []
    for action, recorded in zip(episode.actions, episode.frames[1:], strict=True):
        frame, *_ = game.step(action)
        npc = game.scene.figures[1]
        labels.append(-1 if npc.driven else _label(npc.act))
        answers += game.scene.reactions
        if not np.array_equal(frame, recorded):
            raise ValueError(f"episode {seed} shows another game than this version plays; record it again")
    last = len(labels) - 1 - LOOKED_AT
    plain = (told for told in answers if labels[told.gesture_frame] == 0 and told.gesture_frame <= last)
    return Labelled(episode.frames, np.array(labels), tuple(plain))


def read_dataset(folder: Path, split: str) -> list[Labelled]:
    """The labelled episodes of one split of a recording of Encounter."""
    meta = read_meta(folder, Encounter.name)
    if meta["game"] != Encounter.name:
        raise ValueError(f"{folder} holds a recording of {meta['game']}; reactions are read in {Encounter.name}")
    entries = [entry for entry in meta["episodes"] if entry["split"] == split]
    return [label_episode(read_episode(folder / each["file"], each["sha256"]), each["seed"]) for each in entries]


def cut_windows(frames: np.ndarray, at: np.ndarray) -> Tensor:
    """Windows (B, WINDOW, 3, H, W) uint8 around frames `at` of (T, H, W, 3); the ends are repeated."""
    near = np.clip(at[:, None] + np.arange(-BEFORE, AFTER + 1), 0, len(frames) - 1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames[near], -1, 2)))


def train_reader(
    reader: ReactionReader, episodes: list[Labelled], rng: np.random.Generator, *, steps: int, batch: int = 64
) -> None:
    """Train a reader in place, by cross entropy. rng: draws the batches."""
    places = _places_by_label(episodes)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc="train reader", unit="update"):
        windows, labels = _draw_batch(episodes, places, batch, rng)
        loss = F.cross_entropy(reader(windows), labels)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the reader's loss became {loss.item()}; train with another seed")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def find_answer(labels: np.ndarray, gesture_frame: int) -> tuple[str | None, int | None]:
    """The answer to a gesture that met an idle NPC, and its onset frame; (None, None) where none is to be seen.

    labels: (T,) as `ReactionReader.read` gives. The answer is the first label but idle that stays for two frames.
    """
    for frame in range(gesture_frame + 1, min(gesture_frame + LOOKED_AT, len(labels) - 1)):
        if labels[frame] > 0 and labels[frame] == labels[frame + 1]:
            return LABELS[labels[frame]], frame
    return None, None


def score_reader(reader: ReactionReader, episodes: list[Labelled]) -> dict[str, float]:
    """Shares of frames and of answers that are read rightly, mean error of the delay, and false answers.

    false: share of stretches of 1 + `LOOKED_AT` idle frames in which an answer is read. onset_error_frames is left out
    where no answer is read.
    """
    right, onset_errors, frames_right, false = [], [], [], []
    for episode in episodes:
        read = reader.read(episode.frames)
        known = episode.labels >= 0
        frames_right.append(read[known] == episode.labels[known])
        for told in episode.answers:
            reaction, onset = find_answer(read, told.gesture_frame)
            right.append(reaction == told.reaction)
            onset_errors += [] if onset is None else [abs(onset - told.onset_frame)]
        false += [find_answer(read, start)[0] is not None for start in _idle_starts(episode.labels)]
    return {
        "frames": float(np.concatenate(frames_right).mean()),
        "answers": float(np.mean(right)),
        "answers_counted": float(len(right)),
        "false": float(np.mean(false)),
        "false_counted": float(len(false)),
    } | ({"onset_error_frames": float(np.mean(onset_errors))} if onset_errors else {})


def save_reader(reader: ReactionReader, path: Path) -> None:
    """Write the weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(reader.state_dict(), path)


def load_reader(path: Path) -> ReactionReader:
    """The reader that `save_reader` wrote; ValueError in one line where the file holds none."""
    reader = ReactionReader()
    try:
        reader.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError):
        raise ValueError(f"'{path}' holds no reader; `worldsim_training.reactions --out FILE` writes one") from None
    return reader


def play_episodes(split: str, count: int, seed: int = 0) -> list[Labelled]:
    """Labelled episodes of visitors and random buttons in turn, with the seeds that `collect` would give them."""
    policies, number = ("visitor", "random"), SPLITS.index(split)
    seeds = [(seed, number, index) for index in range(count)]
    return [
        label_episode(record_episode(Encounter(), policies[each[2] % 2], each, Encounter.max_episode_steps), each)
        for each in tqdm(seeds, desc=f"play {split}", unit="episode")
    ]


def make_reader(episodes: list[Labelled], *, steps: int = STEPS, seed: int = 0) -> ReactionReader:
    """A reader trained on labelled episodes, all from the seed."""
    torch.manual_seed(seed)
    reader = ReactionReader()
    train_reader(reader, episodes, np.random.default_rng(seed), steps=steps)
    return reader


def ready_reader(
    path: Path | None, *, episodes: int = EPISODES, steps: int = STEPS, held_out: int = HELD_OUT
) -> tuple[ReactionReader, dict[str, float]]:
    """A reader that reads the real game, and its scores on held-out episodes of it.

    path: its weights; where there are none, or no path is given, one is trained, and written there. ValueError where it
    reads less than `LEAST_ACCURACY` of the real game's answers rightly.
    """
    is_there = path is not None and path.exists()
    reader = load_reader(path) if is_there else make_reader(play_episodes("train", episodes), steps=steps)
    if path is not None and not is_there:
        save_reader(reader, path)
    scores = score_reader(reader, play_episodes("test", held_out))
    if scores["answers"] < LEAST_ACCURACY:
        seen = f"the reader reads {scores['answers']:.3f} of {scores['answers_counted']:.0f} real answers rightly"
        raise ValueError(f"{seen}, below {LEAST_ACCURACY}; train one with worldsim_training.reactions --steps, --seed")
    return reader, scores


def main(arguments: list[str] | None = None) -> None:
    """Train a reader, print its scores on episodes that it never saw and write it."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_training.reactions", description="train the reader")
    parser.add_argument("--out", type=Path, required=True, help="file of the reader, .safetensors")
    parser.add_argument("--data", type=Path, help="folder of a recording of Encounter (default: played on the spot)")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"played on the spot (default: {EPISODES})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"updates (default: {STEPS})")
    parser.add_argument("--seed", type=int, default=0, help="of episodes, weights and batches (default: 0)")
    args = parser.parse_args(arguments)
    try:
        make_room_for(args.out)
        splits = {"train": args.episodes, "test": HELD_OUT}
        train, test = (
            play_episodes(split, count, args.seed) if args.data is None else read_dataset(args.data, split)
            for split, count in splits.items()
        )
        reader = make_reader(train, steps=args.steps, seed=args.seed)
        scores = score_reader(reader, test)
    except (ValueError, OSError) as error:
        raise SystemExit(f"reactions: {error}") from None
    save_reader(reader, args.out)
    print(json.dumps(scores))


def _label(act: str) -> int:
    return LABELS.index(act) if act in REACTIONS else 0


def _places_by_label(episodes: list[Labelled]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each label the (episode, frame) pairs (n, 2) that show it, and those (m, 2) of them where an act changes."""
    known = [
        np.stack((np.full(len(each.labels), i), np.arange(len(each.labels)), each.labels, _near_change(each.labels)), 1)
        for i, each in enumerate(episodes)
    ]
    table, places = np.concatenate(known), []
    for label, name in enumerate(LABELS):
        found = table[table[:, 2] == label]
        if not found[:, 3].any():
            raise ValueError(f"the recording never shows {name!r}; record more frames")
        places.append((found[:, :2], found[found[:, 3] == 1, :2]))
    return places


def _near_change(labels: np.ndarray) -> np.ndarray:
    """(T,) bool, whether the label changes within `CHANGE_SPAN` frames before or after a frame."""
    changes = np.flatnonzero(np.diff(labels)) + 0.5
    return np.abs(np.arange(len(labels))[:, None] - changes).min(axis=1, initial=np.inf) < CHANGE_SPAN


def _draw_batch(
    episodes: list[Labelled], places: list[tuple[np.ndarray, np.ndarray]], batch: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Windows (batch, WINDOW, 3, H, W) and labels (batch,).

    All labels come alike often, but idle, which looks most various; half of the frames are of those that are hardest to
    read, where an act begins or ends.
    """
    chances = np.ones(len(LABELS))
    chances[0] = len(LABELS) / 2
    labels = rng.choice(len(LABELS), batch, p=chances / chances.sum())
    windows = []
    for label, hard in zip(labels, rng.random(batch) < 0.5, strict=True):
        some = places[label][int(hard)]
        i, frame = some[rng.integers(len(some))]
        windows.append(cut_windows(episodes[i].frames, np.array([frame])))
    return torch.cat(windows), torch.from_numpy(labels)


def _idle_starts(labels: np.ndarray) -> list[int]:
    """First frames of stretches, one after the other, in which the NPC is idle as long as an answer is looked for."""
    length = 1 + LOOKED_AT
    return [start for start in range(0, len(labels) - length + 1, length) if not labels[start : start + length].any()]


if __name__ == "__main__":
    main()
