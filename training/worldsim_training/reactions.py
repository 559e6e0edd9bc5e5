"""The reader of reactions: what an NPC of Encounter does in each frame of a video, real or imagined.

    python -m worldsim_training.collect game=encounter frames=60000 'policies=[visitor,random]' out=data/reactions
    python -m worldsim_training.reactions --data data/reactions --out reactions.safetensors

trains a small network on the train split and scores it on the test split, whose episodes it never saw.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from worldsim_envs.encounter.rules import MOST_DELAY, REACTIONS
from worldsim_envs.encounter.scene import Reaction
from worldsim_envs.games.encounter import Encounter
from worldsim_training.episodes import Episode, read_episode, read_meta

LABELS = ("idle", *REACTIONS)
BEFORE, AFTER = 1, 3
"""Frames of the window around the frame that is read: a pose may take some frames to be unlike all others."""
WINDOW = BEFORE + 1 + AFTER
SLACK = 2
"""Frames after the latest possible onset in which an answer is still looked for."""
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
    opening_seed, _ = np.random.SeedSequence(tuple(seed)).spawn(2)
    frame, labels, answers = game.reset(opening_seed), [0], []
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
    meta = read_meta(folder)
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

    false: share of stretches of 1 + `LOOKED_AT` idle frames in which an answer is read.
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
        "onset_error_frames": float(np.mean(onset_errors)),
        "false": float(np.mean(false)),
        "false_counted": float(len(false)),
    }


def save_reader(reader: ReactionReader, path: Path) -> None:
    """Write the weights as safetensors."""
    save_file(reader.state_dict(), path)


def load_reader(path: Path) -> ReactionReader:
    """The reader that `save_reader` wrote."""
    reader = ReactionReader()
    reader.load_state_dict(load_file(path))
    return reader


def main(arguments: list[str] | None = None) -> None:
    """Train a reader on a recording, print its scores on the test split and write it."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_training.reactions", description="train the reader")
    parser.add_argument("--data", type=Path, required=True, help="folder of a recording of Encounter")
    parser.add_argument("--out", type=Path, required=True, help="file of the reader, .safetensors")
    parser.add_argument("--steps", type=int, default=800, help="updates (default: 800)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    args = parser.parse_args(arguments)
    torch.manual_seed(args.seed)
    reader = ReactionReader()
    try:
        train_reader(reader, read_dataset(args.data, "train"), np.random.default_rng(args.seed), steps=args.steps)
        scores = score_reader(reader, read_dataset(args.data, "test"))
    except (ValueError, OSError) as error:
        raise SystemExit(f"reactions: {error}") from None
    save_reader(reader, args.out)
    print(json.dumps(scores))


def _label(act: str) -> int:
    return LABELS.index(act) if act in REACTIONS else 0


def _places_by_label(episodes: list[Labelled]) -> list[np.ndarray]:
    """For each label the (episode, frame) pairs (n, 2) that show it."""
    places = []
    for label, name in enumerate(LABELS):
        found = [
            np.stack((np.full(len(frames), i), frames), axis=1)
            for i, episode in enumerate(episodes)
            if len(frames := np.flatnonzero(episode.labels == label))
        ]
        if not found:
            raise ValueError(f"the recording never shows {name!r}; record more frames")
        places.append(np.concatenate(found))
    return places


def _draw_batch(
    episodes: list[Labelled], places: list[np.ndarray], batch: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Windows (batch, WINDOW, 3, H, W) and labels (batch,): all alike often, but idle, which looks most various."""
    chances = np.ones(len(LABELS))
    chances[0] = len(LABELS) / 2
    labels = rng.choice(len(LABELS), batch, p=chances / chances.sum())
    drawn = [places[label][rng.integers(len(places[label]))] for label in labels]
    windows = [cut_windows(episodes[i].frames, np.array([frame])) for i, frame in drawn]
    return torch.cat(windows), torch.from_numpy(labels)


def _idle_starts(labels: np.ndarray) -> list[int]:
    """First frames of stretches, one after the other, in which the NPC is idle as long as an answer is looked for."""
    length = 1 + LOOKED_AT
    return [start for start in range(0, len(labels) - length + 1, length) if not labels[start : start + length].any()]


if __name__ == "__main__":
    main()
