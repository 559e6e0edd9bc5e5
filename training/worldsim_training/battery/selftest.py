"""The battery tried on simulators whose faults are known: the real game must pass, each broken copy must be flagged.

    python -m worldsim_training.battery.selftest boxing
    python -m worldsim_training.battery.selftest all --parts runs/selftest

Needs no world. A game that lets an instrument measure nothing (no rewards, no state told) leaves a gap, which is named;
the exit status is 0 where whatever the battery does measure may be trusted in every game named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from worldsim_envs.games import Game, game_class, game_names
from worldsim_training.battery.bars import MEANT_FOR, MEASURED_BY, failed, passes
from worldsim_training.battery.broken import broken
from worldsim_training.battery.ledger import Ledger
from worldsim_training.battery.simulator import RealSimulator
from worldsim_training.battery.tryouts import INSTRUMENTS, Figures, Size, remembering, set_up
from worldsim_training.heldout import record_heldout
from worldsim_training.report.words import number

REAL, ALL = "real", "all"
SAVE_EVERY = 8


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
    names: Sequence[str] = tuple(INSTRUMENTS)
    """The instruments that are tried."""


FULL = Plan(
    episodes=8, max_steps=0, size=Size(branches=100, random=64, windows=64, window_steps=64, state_steps=(16, 64))
)


def self_test(
    game: Game,
    plan: Plan,
    *,
    seed: int,
    progress: Callable[[str], object] = lambda name: None,
    ledger: Ledger | None = None,
) -> dict[str, Figures]:
    """The figures of the real game, under "real", and of each of its broken copies; `ledger` keeps them one by one."""
    most, ledger = plan.max_steps or game.max_episode_steps, ledger or Ledger()
    amount = {"episodes": plan.episodes, "max_steps": most, "save_every": SAVE_EVERY}
    heldout = record_heldout(game, split="validation", seed=seed, **amount)
    bench = set_up(game, heldout, plan.size, past=plan.past, seed=seed, names=plan.names)
    sound = remembering(bench, RealSimulator(game, heldout))
    out: dict[str, Figures] = {}
    for name, simulator in ({REAL: sound} | broken(game, sound)).items():
        narrow = plan.names
        if name != REAL and not plan.whole:
            narrow = tuple(MEASURED_BY[key] for key in [meant_for(name, out[REAL])] if key)
        out[name] = ledger.part(name, lambda simulator=simulator, narrow=narrow: bench.score(simulator, narrow))
        progress(name)
    return out


def meant_for(fault: str, real: Figures) -> str | None:
    """The figure that must flag a fault, in a game that gave these figures; None where it gave none of those."""
    return next((key for key in MEANT_FOR[fault] if key in real), None)


def complaints(results: Mapping[str, Figures]) -> list[str]:
    """What is wrong with the battery, a line each: the real game failed a bar, or a fault was not flagged."""
    said = [f"the real game fails {key}: {number(results[REAL][key])}" for key in failed(results[REAL])]
    for name, figures in results.items():
        key = meant_for(name, results[REAL]) if name != REAL else None
        if key and passes(key, figures.get(key)):
            said.append(f"'{name}' is not flagged by {key}: {figures[key]:.3f}")
    return said


def gaps(results: Mapping[str, Figures]) -> list[str]:
    """What this game does not let the battery see, a line each, with the reason."""
    said = []
    for name, keys in MEANT_FOR.items():
        if name not in results:
            said.append(f"'{name}' cannot be tried: the game reads no opponent from frames")
        elif meant_for(name, results[REAL]) is None:
            why = results[REAL].get(f"refused_{MEASURED_BY[keys[0]]}", "it was not measured")
            said.append(f"'{name}' cannot be flagged by {keys[0]}: {why}")
    return said


def table(results: Mapping[str, Figures]) -> str:
    """Each simulator with the figures that it fails."""
    lines = []
    for name, figures in results.items():
        flags = ", ".join(f"{key} {number(figures[key])}" for key in failed(figures))
        lines.append(f"{name:17} {flags or 'passes'}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="worldsim_training.battery.selftest", description=__doc__, formatter_class=layout
    )
    parser.add_argument("games", nargs="+", help="games' names, your adapters as module:Class, or all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--parts", type=Path, metavar="FOLDER", help="keep each simulator's figures here, and take up a run that ended"
    )
    args = parser.parse_args(argv)
    names = list(game_names()) if args.games == [ALL] else args.games
    try:
        kinds = [game_class(name) for name in names]
        return max(_try(kind, args.seed, args.parts) for kind in kinds)
    except (ValueError, OSError, ImportError) as error:
        print(f"selftest: {error}", file=sys.stderr)
        return 2


def _try(kind: type[Game], seed: int, parts: Path | None) -> int:
    """One game: print what came of it; 0 where the battery may be trusted in it."""
    folder = parts / kind.name if parts is not None else None
    ledger = Ledger(folder, {"game": kind.facts(), "seed": seed, "plan": asdict(FULL)})
    with kind() as game, tqdm(total=1 + len(MEANT_FOR), unit="simulator", desc=kind.name) as bar:
        results = self_test(game, FULL, seed=seed, progress=lambda name: bar.update(), ledger=ledger)
    wrong = complaints(results)
    lines = [table(results), *gaps(results)]
    lines += wrong or [f"{kind.name}: the real game passes, every fault that it can show is flagged"]
    print("\n".join(lines), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
