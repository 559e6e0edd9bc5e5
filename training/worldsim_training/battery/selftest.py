"""The battery tried on simulators whose faults are known: the real game must pass, each broken copy must be flagged.

    python -m worldsim_training.battery.selftest boxing

Needs no world. The exit status is 0 where the battery may be trusted in that game.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from worldsim_envs.games import Game, game_class
from worldsim_training.battery.bars import MEANT_FOR, MEASURED_BY, failed, passes
from worldsim_training.battery.broken import broken
from worldsim_training.battery.simulator import RealSimulator
from worldsim_training.battery.tryouts import INSTRUMENTS, Figures, Size, remembering, set_up
from worldsim_training.heldout import record_heldout

REAL = "real"


@dataclass(frozen=True)
class Plan:
    """How much a self-test records and measures."""

    episodes: int
    max_steps: int
    """Cut episodes after so many steps; 0: the game ends them."""
    size: Size
    past: int = 4
    whole: bool = True
    """Put each broken copy to all instruments; else to the one that is meant to flag it."""


FULL = Plan(
    episodes=8, max_steps=0, size=Size(branches=100, random=64, windows=64, window_steps=64, state_steps=(16, 64))
)


def self_test(
    game: Game, plan: Plan, *, seed: int, progress: Callable[[str], object] = lambda name: None
) -> dict[str, Figures]:
    """The figures of the real game, under "real", and of each of its broken copies."""
    most = plan.max_steps or game.max_episode_steps
    amount = {"episodes": plan.episodes, "max_steps": most, "save_every": 8}
    heldout = record_heldout(game, split="validation", seed=seed, **amount)
    bench = set_up(game, heldout, plan.size, past=plan.past, seed=seed)
    sound = remembering(bench, RealSimulator(game, heldout))
    out = {}
    for name, simulator in ({REAL: sound} | broken(game, heldout, sound)).items():
        narrow = (MEASURED_BY[MEANT_FOR[name]],) if name in MEANT_FOR and not plan.whole else tuple(INSTRUMENTS)
        out[name] = bench.score(simulator, narrow)
        progress(name)
    return out


def complaints(results: Mapping[str, Figures]) -> list[str]:
    """What is wrong with the battery, a line each: the real game failed a bar, or a fault was not flagged."""
    said = [f"the real game fails {key}: {results[REAL][key]}" for key in failed(results[REAL])]
    for name, key in MEANT_FOR.items():
        if key not in results[name]:
            said.append(f"'{name}' cannot be flagged: {key} was not measured{_why(results[name])}")
        elif passes(key, results[name][key]):
            said.append(f"'{name}' is not flagged by {key}: {results[name][key]:.3f}")
    return said


def table(results: Mapping[str, Figures]) -> str:
    """Each simulator with the figures that it fails."""
    lines = []
    for name, figures in results.items():
        flags = ", ".join(f"{key} {figures[key]:.2f}" for key in failed(figures))
        lines.append(f"{name:17} {flags or 'passes'}")
    return "\n".join(lines)


def _why(figures: Figures) -> str:
    reasons = [str(why) for key, why in figures.items() if key.startswith("refused_")]
    return f" ({'; '.join(reasons)})" if reasons else ""


def main(argv: list[str] | None = None) -> int:
    """The command."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="worldsim_training.battery.selftest", description=__doc__, formatter_class=layout
    )
    parser.add_argument("game", help="a game's name, or your adapter as module:Class")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        with game_class(args.game)() as game, tqdm(total=1 + len(MEANT_FOR), unit="simulator") as bar:
            results = self_test(game, FULL, seed=args.seed, progress=lambda name: bar.update())
    except (ValueError, OSError, ImportError) as error:
        print(f"selftest: {error}", file=sys.stderr)
        return 2
    print(table(results))
    wrong = complaints(results)
    print("\n".join(wrong) or f"{args.game}: the real game passes, every fault is flagged")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
