"""How rightly, how soon and how truly an NPC answers, read off video: of the source game, or of a world.

    python -m worldsim_training.npc_score game                        # Encounter itself: the ceiling
    python -m worldsim_training.npc_score runs/encounter/world --json npc.json
    python -m worldsim_training.npc_score boxing                      # a real game's opponent: `opponent`

The reader is trained on the spot, or kept with --reader FILE for the next time; it is not used where it reads the real
game worse than `reactions.LEAST_ACCURACY`. The scenes' openings are those of `NPCScene`, which no recording holds.
Beside the game's own rules there is no other truth: what the reader misses in the game itself is the most that it can
see in a world.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldsim.world_model import WorldModel
from worldsim_envs.encounter.rules import ANSWERS, GESTURES, LEAST_DELAY, MOST_DELAY, TEMPERAMENTS
from worldsim_envs.games import source_game
from worldsim_envs.games.encounter import Encounter
from worldsim_envs.npc import Clip, NPCScene
from worldsim_envs.npc.scene import GAME
from worldsim_training import opponent
from worldsim_training.battery.bars import ANY, passes
from worldsim_training.battery.verdicts import FAIL, PASS, Gate, judge
from worldsim_training.episodes import SPLITS, write_whole
from worldsim_training.reactions import AFTER, LOOKED_AT, find_answer, ready_reader

ANSWERED = GESTURES[:-1]
"""Gestures that somebody answers."""
FRAMES = 1 + LOOKED_AT + AFTER
"""Of a clip that begins with a gesture: those that decide, and those that the reader sees beyond them."""
STRETCH = 1 + LOOKED_AT
IDLE_STRETCHES = 6
BARS = {
    "answers": ("at least", 0.9),
    "delay_error_frames": ("at most", 1.0),
    "false": ("at most", 0.02),
    "changes": ("at least", 0.9),
}
EXPECTED_DELAY = (LEAST_DELAY + MOST_DELAY) / 2


@dataclass(frozen=True)
class Trial:
    """A clip and what the rules say of it."""

    seed: int
    opened_as: str
    """Temperament at the scene's opening."""
    temperament: str
    """Temperament that decides the answer."""
    gesture: str | None
    """Made with the clip's first action; None where the player does nothing."""
    clip: Clip

    @property
    def expected(self) -> str | None:
        """The answer by the rules: everybody is calm in an opening."""
        return None if self.gesture is None else ANSWERS[self.temperament, "calm"][self.gesture][0]


Read = Callable[[Trial], np.ndarray]
"""Index into `reactions.LABELS` of each frame of the trial's clip: (N + 1,)."""


def answer_trials(world: str | WorldModel, seeds: Sequence[int], **settings) -> Iterator[Trial]:
    """Every gesture before every temperament. settings: those of `NPCScene`."""
    for seed in seeds:
        for name in TEMPERAMENTS:
            scene = NPCScene(world, seed=seed, temperament=name, **settings)
            for gesture, clip in scene.compare(dict.fromkeys(ANSWERED, ...), FRAMES).items():
                yield Trial(seed, name, name, gesture, clip)


def change_trials(world: str | WorldModel, seeds: Sequence[int], **settings) -> Iterator[Trial]:
    """Every change of temperament, right after the first frame of a gesture that both answer differently.

    No answer has begun by then, so the rules have the new temperament decide it. The gesture is drawn from the seed.
    """
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for before, after in permutations(TEMPERAMENTS, 2):
            telling = [each for each in ANSWERED if _answer(before, each) != _answer(after, each)]
            gesture = str(rng.choice(telling))
            scene = NPCScene(world, seed=seed, temperament=before, **settings)
            first = scene.react(gesture, 1)
            scene.temperament = after
            yield Trial(seed, before, after, gesture, _joined(first, scene.play(FRAMES - 1)))


def idle_trials(world: str | WorldModel, seeds: Sequence[int], **settings) -> Iterator[Trial]:
    """Nobody does anything, before every temperament."""
    for seed in seeds:
        for name in TEMPERAMENTS:
            scene = NPCScene(world, seed=seed, temperament=name, **settings)
            yield Trial(seed, name, name, None, scene.play(IDLE_STRETCHES * STRETCH + AFTER))


def score_answers(trials: Iterator[Trial], read: Read, name: str = "answers") -> dict[str, float]:
    """Share of trials whose answer is the right one, over all and for each gesture and temperament; the delays.

    {name}_counted: trials. delay_error_frames: mean distance of the read delays from the rules' mean of 3, whose own
    dice are 0.5 off on average. delay_lawful: share of the read delays that the rules allow. Without answers neither is
    given.
    """
    right: dict[tuple[str, str], list[bool]] = {}
    delays = []
    for trial in trials:
        reaction, onset = find_answer(read(trial), 1)
        right.setdefault((trial.gesture, trial.temperament), []).append(reaction == trial.expected)
        delays += [] if onset is None else [onset - 1]
    every = [each for cell in right.values() for each in cell]
    late = np.array(delays, float)
    cells = {f"{name}_{gesture}_{who}": float(np.mean(cell)) for (gesture, who), cell in right.items()}
    return {
        name: float(np.mean(every)),
        f"{name}_counted": float(len(every)),
        **(cells if name == "answers" else {}),
        **{f"{_prefix(name)}{key}": value for key, value in _delays(late).items()},
    }


def score_idle(trials: Iterator[Trial], read: Read) -> dict[str, float]:
    """Share of stretches of 1 + `LOOKED_AT` frames without a gesture in which an answer is read."""
    false = []
    for trial in trials:
        labels = read(trial)
        false += [find_answer(labels, start)[0] is not None for start in range(0, IDLE_STRETCHES * STRETCH, STRETCH)]
    return {"false": float(np.mean(false)), "false_counted": float(len(false))}


def score(world: str | WorldModel, read: Read, seeds: Sequence[int], **settings) -> dict[str, float]:
    """All figures of a world or of the game."""
    total = len(seeds) * (len(TEMPERAMENTS) * (len(ANSWERED) + 1) + len(list(permutations(TEMPERAMENTS, 2))))
    with tqdm(total=total, desc="scenes", unit="scene") as bar:
        answers, changes, idle = (
            _counted(trials(world, seeds, **settings), bar) for trials in (answer_trials, change_trials, idle_trials)
        )
        figures = score_answers(answers, read)
        return figures | score_answers(changes, read, "changes") | score_idle(idle, read)


def judged(figures: Mapping) -> list[Gate]:
    """The figures that have a bar, each as a gate: of Encounter's answers, or of a real game's opponent.

    ValueError where the figures are of neither.
    """
    if "onset_error" in figures:
        return [gate for gate in judge(figures) if gate.key == "onset_error"]
    if "answers" not in figures:
        raise ValueError("the figures tell of no NPC's answers and of no opponent; npc_score --json writes such")
    bars = {name: (bar, ANY) if way == "at least" else (-ANY, bar) for name, (way, bar) in BARS.items()}
    return [
        Gate(name, PASS if passes(name, figures.get(name), bar) else FAIL, figures.get(name), None, bar, None, "")
        for name, bar in bars.items()
    ]


def least_right(figures: Mapping) -> tuple[float, str, str]:
    """The least share of right answers, and the gesture and the temperament that it is of."""
    return min((figures[f"answers_{gesture}_{who}"], gesture, who) for gesture in ANSWERED for who in TEMPERAMENTS)


def table(figures: Mapping) -> str:
    """The figures that have a bar, one a line, then the share of right answers by gesture and temperament."""
    seen = {name: f"{figures[name]:.3f}" if name in figures else "none" for name in BARS}
    lines = [f"{name:<22}{seen[name]:>8}   {way} {bar}" for name, (way, bar) in BARS.items()]
    lines += ["", f"{'right answers':<14}" + "".join(f"{who:>10}" for who in TEMPERAMENTS)]
    for gesture in ANSWERED:
        lines.append(f"{gesture:<14}" + "".join(f"{figures[f'answers_{gesture}_{who}']:10.2f}" for who in TEMPERAMENTS))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Score a world or the game, print the table and write the figures where asked for."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_training.npc_score", description="score an NPC's answers")
    parser.add_argument("world", help="game (Encounter itself), a shipped world's name or a world's folder")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, or of episodes and states (default: 0)")
    parser.add_argument("--steps", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, as one flat object")
    encounter = parser.add_argument_group("Encounter and its worlds")
    encounter.add_argument("--scenes", type=int, default=20, help="seeds; each makes 36 scenes (default: 20)")
    encounter.add_argument("--reader", type=Path, help="weights of the reader; trained and written if not there")
    other = parser.add_argument_group("worlds of other games, whose opponent is branched")
    other.add_argument("--states", type=int, default=300, help="states with two branches each (default: 300)")
    other.add_argument("--split", choices=SPLITS[1:], default=SPLITS[1], help=f"held-out seeds (default: {SPLITS[1]})")
    args = parser.parse_args(arguments)
    try:
        figures, lines = _figures(args)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"npc_score: {error}") from None
    print(lines)
    if args.json is not None:
        write_whole(args.json, (json.dumps(figures, indent=2) + "\n").encode())


def _figures(args: argparse.Namespace) -> tuple[dict[str, float | str], str]:
    """The figures asked for and what they are of, and as lines to read."""
    if min(args.scenes, args.states) < 1 or args.seed < 0:
        seen = f"--scenes {args.scenes} --states {args.states} --seed {args.seed}"
        raise ValueError(f"{seen}; give at least 1 scene or state and a seed from 0")
    world = GAME if args.world == GAME else WorldModel.from_pretrained(args.world, device=args.device)
    if world == GAME or world.info.env_id == Encounter.env_id:
        reader, own = ready_reader(args.reader)
        seeds = range(args.seed, args.seed + args.scenes)
        figures = score(world, lambda trial: reader.read(trial.clip.frames), seeds, steps=args.steps)
        figures |= {f"reader_{name}": value for name, value in own.items()}
        return figures | _told(args, world), table(figures)
    steps = world.info.default_steps if args.steps is None else args.steps
    with source_game(world.info.env_id)() as game:
        numbers = {"states": args.states, "split": args.split, "seed": args.seed, "steps": steps}
        figures = opponent.measure(world, game, **numbers)
    return figures | _told(args, world), opponent.table(figures)


def _told(args: argparse.Namespace, world: str | WorldModel) -> dict[str, str]:
    """What the figures are of, and the command that makes them again."""
    words = ["python", "-m", "worldsim_training.npc_score", args.world, "--seed", args.seed, "--device", args.device]
    words += ["--steps", args.steps] if args.steps is not None else []
    of_encounter = world == GAME or world.info.env_id == Encounter.env_id
    words += ["--scenes", args.scenes] if of_encounter else ["--states", args.states, "--split", args.split]
    told = {"command": shlex.join(map(str, words))}
    if world == GAME:
        return told | {"world": GAME, "env_id": Encounter.env_id}
    return told | {
        "world": world.info.name,
        "env_id": world.info.env_id,
        "world_manifest_sha256": world.fingerprint,
    }


def _answer(temperament: str, gesture: str) -> str:
    return ANSWERS[temperament, "calm"][gesture][0]


def _delays(late: np.ndarray) -> dict[str, float]:
    if not len(late):
        return {}
    lawful = (late >= LEAST_DELAY) & (late <= MOST_DELAY)
    return {"delay_error_frames": float(np.abs(late - EXPECTED_DELAY).mean()), "delay_lawful": float(lawful.mean())}


def _joined(one: Clip, other: Clip) -> Clip:
    """Two clips of one scene, the other going on where the one ends."""
    frames = np.concatenate((one.frames, other.frames[1:]))
    return Clip(frames, np.concatenate((one.actions, other.actions)), one.words + other.words, one.fps, other.title)


def _prefix(name: str) -> str:
    return "" if name == "answers" else f"{name}_"


def _counted(trials: Iterator[Trial], bar: tqdm) -> Iterator[Trial]:
    for trial in trials:
        yield trial
        bar.update()


if __name__ == "__main__":
    main()
