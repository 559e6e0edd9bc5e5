"""The judgement of a world against its source game, on held-out episodes that are recorded on the spot.

    worldsim eval boxing --quick --json eval.json

Measured are the gain over copying the last known frame, 1 to 32 steps ahead, beside what the real game gains there with
other luck (in a game whose luck can be changed); the sign test, whether opposite commands move the player opposite
ways; and the collapse of 300-step rollouts. Definitions stand beside the formulas in `metrics`, `ceilings`, `control`
and `collapse`. Each instrument first passes on the real game, or nothing is reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game, source_game
from worldsim_training import ceilings, control, gains, imagine, stability
from worldsim_training.battery import measure
from worldsim_training.battery.bars import ANY, BARS
from worldsim_training.battery.ledger import Ledger
from worldsim_training.episodes import SPLITS, write_whole
from worldsim_training.heldout import HeldOut, Moment, record_heldout

LEAST_REAL_SCORE = 0.75
"""The sign test is refused where the real game itself scores less."""


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    episodes: int
    windows: int
    horizons: tuple[int, ...]
    """Steps ahead at which the free-running prediction is compared."""
    trials: int
    """States of the sign test."""
    rollouts: int = 50
    rollout_steps: int = 300
    real_rollouts: int = 24
    """At most so many real rollouts set the limits of collapse, and so many more check them."""
    episode_steps: int = 0
    """Cut every held-out episode after so many steps; 0: the game ends it."""
    branches: int = 8
    """Real games with other luck that are played on from each window."""
    save_every: int = 8
    """Steps between the real game's save states."""
    battery: measure.Extent | None = None
    """What of the battery is measured beside these; None: nothing."""
    batch: int = 13
    """Worlds that are imagined together, eight times as many on a GPU; a CPU runs as many batches as it has threads."""


QUICK = Plan(episodes=12, windows=100, horizons=(1, 4, 16), trials=100, real_rollouts=8, battery=measure.QUICK)
FULL = Plan(episodes=24, windows=512, horizons=(1, 4, 16, 32), trials=256, battery=measure.FULL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `worldsim eval`."""
    parser.add_argument("world", help="name of a shipped world, or a world's folder")
    parser.add_argument("--quick", action="store_true", help="fewer windows and states: some minutes on two CPU cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, as one flat object")
    parser.add_argument(
        "--parts", type=Path, metavar="FOLDER", help="keep each finished part here, and take up a run that was ended"
    )
    parser.add_argument("--long", action="store_true", help="also rollouts of 10,000 steps: hours on a CPU")
    parser.add_argument("--split", choices=SPLITS[1:], default=SPLITS[1], help=f"held-out seeds (default: {SPLITS[1]})")
    parser.add_argument("--steps", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument("--seed", type=int, default=0, help="of episodes, windows, actions and noise (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--game", help="your own adapter of the real game, as module:Class (default: a known one)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table and write the JSON file; 0 when everything was measured, whatever the figures."""
    started = time.perf_counter()
    if args.json is not None:
        _check_target(args.json)
    if args.seed < 0:
        raise ValueError(f"seed is {args.seed}; use 0 or more")
    model = WorldModel.from_pretrained(args.world, device=args.device)
    kind = source_game(model.info.env_id, args.game)
    steps = model.info.default_steps if args.steps is None else args.steps
    _check_fit(model, kind, steps)
    plan = QUICK if args.quick else FULL
    if args.long:
        plan = dataclasses.replace(plan, battery=measure.with_long_drift(plan.battery))
    numbers = {"split": args.split, "seed": args.seed, "steps": steps}
    with kind() as game:
        report = evaluate(model, game, plan, **numbers, ledger=_ledger(args, model, game, plan), world=str(args.world))
    report |= _provenance(args, model, game) | {"seconds": round(time.perf_counter() - started, 1)}
    print(table(report))
    if args.json is not None:
        write_whole(args.json, (json.dumps(report, indent=1) + "\n").encode())
        print(f"written to {args.json}")
    return 0


def evaluate(
    model: WorldModel,
    game: Game,
    plan: Plan,
    *,
    split: str,
    seed: int,
    steps: int,
    progress: bool = True,
    ledger: Ledger | None = None,
    world: str | None = None,
) -> dict[str, float | int | str | None]:
    """All measurements of a world, flat; the same seed gives the same figures on one build.

    A figure that has no meaning on what was seen is None. `ledger` keeps finished parts. `world` is what another
    process may load; without it determinism is tried within this one.

    Raises ValueError where the world and the game do not fit or an instrument fails on the real game.
    """
    _check_fit(model, type(game), steps)
    ledger = ledger or Ledger()
    streams = np.random.SeedSequence([seed, SPLITS.index(split)]).spawn(5)
    judge_rng, trial_rng, window_rng, rollout_rng, luck_rng = map(np.random.default_rng, streams)
    heldout = _record(game, plan, split=split, seed=seed, progress=progress)
    judge, checked = _appointed(game, heldout, plan, judge_rng)
    trials = control.choose_trials(game, heldout, plan.trials, past=model.info.window_frames, rng=trial_rng)
    real = control.real_displacements(game, heldout, trials)
    _check_real_score(control.scores(real).mean())
    span = {"past": model.info.window_frames, "future": max(plan.horizons)}
    moments = heldout.moments(plan.windows, **span, rng=window_rng)
    ceiling = ledger.part("ceilings", lambda: _ceilings(game, heldout, moments, plan, luck_rng, progress=progress))

    def imagined(settings: imagine.Settings) -> Iterator[dict]:
        """The figures of every part that a world must play for."""
        sizes = {"horizons": plan.horizons, "rng": window_rng, "settings": settings}
        yield ledger.part("gains", lambda: gains.measure_gains(model, heldout, moments, **sizes))
        signs = (model, game, heldout, trials, real, trial_rng, settings)
        yield ledger.part("signs", lambda: control.measure_control(*signs))
        length = {"rollouts": plan.rollouts, "length": plan.rollout_steps, "rng": rollout_rng, "settings": settings}
        yield ledger.part("stability", lambda: stability.measure_stability(model, judge, heldout, **length))
        if plan.battery is not None:
            yield measure.Battery(model, game, heldout, judge, ledger, settings, plan.battery, seed, world).figures()

    with tqdm(total=_frames(plan), unit="frame", desc="imagine", disable=not progress) as bar:
        figures = [*imagined(_settings(model, plan, steps, bar.update))]
    return {
        **{key: value for part in figures for key, value in part.items()},
        **ceiling,
        **checked,
        "episodes": len(heldout.episodes),
        "episode_steps": sum(len(episode.actions) for episode in heldout.episodes),
        "context_frames": model.info.window_frames,
        "steps": steps,
        "split": split,
        "seed": seed,
    }


def _frames(plan: Plan) -> int:
    """Frames that a world paints, for the progress bar; the few of the episodes' ends are left out."""
    own = plan.windows * max(plan.horizons) + 2 * plan.trials * control.HOLD_STEPS + plan.rollouts * plan.rollout_steps
    return own + (plan.battery.frames if plan.battery is not None else 0)


def _record(game: Game, plan: Plan, *, split: str, seed: int, progress: bool) -> HeldOut:
    most = plan.episode_steps or game.max_episode_steps
    with tqdm(total=plan.episodes * most, unit="step", desc="record", disable=not progress) as bar:
        numbers = {"split": split, "seed": seed, "episodes": plan.episodes, "max_steps": most}
        return record_heldout(game, **numbers, save_every=plan.save_every, progress=bar.update)


def _appointed(
    game: Game, heldout: HeldOut, plan: Plan, rng: np.random.Generator
) -> tuple[stability.Judge, dict[str, int]]:
    """The collapse test, checked. Episodes are dealt into three: what the game looks like, the limits, the check."""
    deals = [range(third, len(heldout.episodes), 3) for third in range(3)]
    looks, widths, checks = ([*heldout.cut(deal, plan.rollout_steps)] for deal in deals)
    if not (looks and widths and checks):
        raise ValueError(f"held-out episodes give too few real rollouts of {plan.rollout_steps} frames to judge by")
    widths, checks = (_thinned(rollouts, plan.real_rollouts) for rollouts in (widths, checks))
    random = [i for i, policy in enumerate(heldout.policies) if policy == "random"]  # as the world will be played
    ends = [*heldout.cut(random or range(len(heldout.episodes)), plan.rollout_steps)]
    judge = stability.appoint_judge(game, looks, widths, ends)
    tried = stability.check_judge(judge, checks, rng)
    return judge, {"collapse_check_real_rollouts": len(checks), "collapse_check_mutants": tried}


def _ceilings(
    game: Game, heldout: HeldOut, moments: Sequence[Moment], plan: Plan, rng: np.random.Generator, *, progress: bool
) -> dict[str, float | int]:
    """What the real game gains with other luck; empty where its luck is not known."""
    heldout.resume(game, moments[0])
    if game.luck() is None:
        return {}
    work = len(moments) * (1 + plan.branches) * max(plan.horizons)
    with tqdm(total=work, unit="step", desc="re-roll", disable=not progress) as bar:
        amount = {"horizons": plan.horizons, "branches": plan.branches}
        return ceilings.measure_ceilings(game, heldout, moments, **amount, rng=rng, progress=bar.update)


def _ledger(args: argparse.Namespace, model: WorldModel, game: Game, plan: Plan) -> Ledger:
    """Where finished parts are kept, for runs that would measure the very same."""
    told = _provenance(args, model, game)
    machine = {key: told[key] for key in told if key not in ("command", "quick", "threads")}
    numbers = {"split": args.split, "seed": args.seed, "steps": args.steps, "batch": plan.batch}
    return Ledger(args.parts, {**machine, **numbers, "plan": dataclasses.asdict(plan)})


def _settings(model: WorldModel, plan: Plan, steps: int, progress: Callable[[int], object]) -> imagine.Settings:
    if model.device.type == "cpu":
        return imagine.Settings(steps, plan.batch, torch.get_num_threads(), progress)
    return imagine.Settings(steps, 8 * plan.batch, 1, progress)


def _thinned(items: list, count: int) -> list:
    return items[:: max(1, -(-len(items) // count))]


def _check_fit(model: WorldModel, game: type[Game], steps: int) -> None:
    world, own = (model.info.height, model.info.width), (game.height, game.width)
    if world != own:
        raise ValueError(f"world {model.info.name} paints {world[1]}x{world[0]}; {game.name} shows {own[1]}x{own[0]}")
    if model.actions.to_json()["table"] != game.actions.to_json()["table"]:
        raise ValueError(f"world {model.info.name} and the game {game.name} number their actions differently")
    if steps not in model.info.step_choices:
        raise ValueError(f"steps={steps} is not a trained step count; use one of {model.info.step_choices}")


def _check_real_score(score: float) -> None:
    if score < LEAST_REAL_SCORE:
        raise ValueError(f"sign test refused: the real game scores {score:.2f} by it, below {LEAST_REAL_SCORE}")


def _check_target(path: Path) -> None:
    """Fail before the work rather than after it."""
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; give the name of a file, such as {path / 'eval.json'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"folder '{path.parent}' cannot be written to; choose another --json")


def _provenance(args: argparse.Namespace, model: WorldModel, game: Game) -> dict[str, str | bool]:
    options = [f"--split {args.split}", f"--seed {args.seed}", f"--device {args.device}"]
    options += [f"--steps {args.steps}"] if args.steps is not None else []
    options += ["--quick"] if args.quick else []
    return {
        "world": model.info.name,
        "world_manifest_sha256": model.fingerprint,
        "game": game.name,
        "env_id": game.env_id,
        "resolution": f"{game.width}x{game.height}",
        "quick": args.quick,
        "command": " ".join(["worldsim eval", str(args.world), *options]),
        "dtype": str(model.denoiser.dtype).removeprefix("torch."),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "version_python": platform.python_version(),
        **{f"version_{name}": _version(name) for name in ("worldsim", "torch", "numpy", *game.packages)},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def table(report: dict) -> str:
    """The chief figures of a report as lines to read, floors beside them."""
    r = {key: float("nan") if value is None else value for key, value in report.items()}
    horizons = [int(key.split("_")[1]) for key in r if key.startswith("psnr_")]
    reasons = [f"{key.removeprefix('collapsed_')} {value}" for key, value in r.items() if key.startswith("collapsed_")]
    ends = (f"{name} {r['end_' + name + '_ratio']:.2f}" for name in ("motion", "sharpness", "saturation"))
    lines = [
        f"{r['split']} split: {r['episodes']} episodes, {r['windows']} windows, {r['steps']} denoising steps",
        "gain over copying the last real frame [95 % interval over episodes]",
        *(
            f"  {h:>2} ahead {_interval(r, f'gain_{h}_db', '+.2f')} dB, PSNR {_psnrs(r, h)}{_other_luck(r, h)}"
            for h in horizons
        ),
        "sign test, share of the real game's own score",
        f"  {_interval(r, 'sign_test_share', '.3f')},"
        f" world {r['sign_test_score']:.2f}, real {r['sign_test_real_score']:.2f}, {r['sign_test_states']} states",
        f"collapsed rollouts of {r['rollout_steps']} steps",
        f"  {r['collapsed']} of {r['rollouts']} ({', '.join(reasons)})",
        "end of rollouts, ratio to real frames",
        f"  {', '.join(ends)}; colours {r['end_colour_emd']:.2f} levels off",
        *_battery_lines(r),
    ]
    return "\n".join(lines)


def _battery_lines(report: dict) -> list[str]:
    """The battery's figures that have a bar, with what the real game with other luck scores; and what was refused."""
    lines = []
    for key, (low, high) in BARS.items():
        if key in report:
            luck = f", real game, other luck {report['luck_' + key]:.2f}" if f"luck_{key}" in report else ""
            wanted = f"{low:g} or more" if high == ANY else f"{low:g} to {high:g}"
            lines.append(f"  {key} {report[key]:.3f} (wanted {wanted}{luck})")
    lines += [
        f"  no {key.removeprefix('refused_')}: {why}" for key, why in report.items() if key.startswith("refused_")
    ]
    return ["battery", *lines] if lines else []


def _interval(report: dict, key: str, form: str) -> str:
    low, high = report[f"{key}_low"], report[f"{key}_high"]
    return f"{report[key]:{form}} [{low:{form}}, {high:{form}}]"


def _psnrs(report: dict, h: int) -> str:
    return f"{report[f'psnr_{h}_db']:.2f} against {report[f'floor_{h}_db']:.2f}"


def _other_luck(report: dict, h: int) -> str:
    """The ceilings at a horizon; nothing where they were not measured."""
    if "reroll_states" not in report:
        return ""
    single, mean = report[f"reroll_{h}_db"], report[f"reroll_mean_{h}_db"]
    return f"; real game, other luck {single:+.2f}, mean of {report['reroll_branches']} {mean:+.2f}"


def main(argv: list[str] | None = None) -> int:
    """`python -m worldsim_training.evaluate`, the same command without the package's command line."""
    parser = argparse.ArgumentParser(
        prog="worldsim_training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except (ValueError, OSError, ImportError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
