"""The judgement of a world against its source game, on held-out episodes that are recorded on the spot.

    worldsim eval boxing --quick --json eval.json --report eval.html

Measured are the gain over copying the last known frame, 1 to 32 steps ahead, beside what the real game gains there with
other luck (in a game whose luck can be changed); the sign test, whether opposite commands move the player opposite
ways; and the collapse of 300-step rollouts. Definitions stand beside the formulas in `metrics`, `ceilings`, `control`
and `collapse`. Each instrument first passes on the real game, or its figures are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from worldsim.arguments import make_room_for, positive
from worldsim.bench import cpu_name
from worldsim.render import PremiumWorld, load_teacher
from worldsim.world_model import WorldModel
from worldsim.worlds import world_path
from worldsim_envs.games import Game, source_game
from worldsim_training import openings
from worldsim_training.battery import measure
from worldsim_training.battery.bars import measured_by
from worldsim_training.battery.ledger import Figures, Ledger
from worldsim_training.battery.students import weights_sha256
from worldsim_training.battery.tryouts import INSTRUMENTS
from worldsim_training.battery.verdicts import FAIL, PASS, Gate, judge
from worldsim_training.collapse import REASONS
from worldsim_training.ends import STATISTICS
from worldsim_training.episodes import SPLITS, write_whole
from worldsim_training.evaluation import FULL, QUICK, Evaluation, Plan, check_fit
from worldsim_training.report import page

PACKAGE = Path(__file__).parent
"""The source that decides what figures come of a world."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `worldsim eval`."""
    parser.add_argument("world", help="name of a shipped world, or a world's folder")
    parser.add_argument("--quick", action="store_true", help="fewer windows and states: some minutes on two CPU cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, as one flat object")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page with plots and film strips here")
    parser.add_argument(
        "--parts", type=Path, metavar="FOLDER", help="keep each finished part here, and take up a run that was ended"
    )
    many = "rollouts of 1,000 steps (default: 24, with --quick none); 300 take minutes on a GPU, hours on a CPU"
    parser.add_argument("--rollouts", type=positive(int), metavar="N", help=many)
    parser.add_argument("--long", action="store_true", help="also rollouts of 10,000 steps: hours on a CPU")
    parser.add_argument(
        "--teacher", type=Path, help="a world's folder, or a training stage's: also compare with its many-step network"
    )
    parser.add_argument("--intervals", type=positive(int), default=32, help="the teacher's calls a frame (default: 32)")
    parser.add_argument("--split", choices=SPLITS[1:], default=SPLITS[1], help=f"held-out seeds (default: {SPLITS[1]})")
    parser.add_argument("--steps", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument("--seed", type=int, default=0, help="of episodes, windows, actions and noise (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--game", help="your own adapter of the real game, as module:Class (default: a known one)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table and write the files asked for; 0 when all was measured, whatever the figures."""
    started = time.perf_counter()
    _check_arguments(args)
    model = WorldModel.from_pretrained(args.world, device=args.device)
    kind = source_game(model.info.env_id, args.game)
    steps = model.info.default_steps if args.steps is None else args.steps
    check_fit(model, kind, steps)
    plan, teacher = _plan(args), _teacher(args, model)
    with kind() as game:
        told = _provenance(args, model, game) | _teacher_told(args, teacher)
        ledger = _ledger(args, told, plan)
        told |= _opened(args, model) if args.split == "test" else {}
        kit = {"ledger": ledger, "world": str(args.world), "teacher": teacher}
        evaluation = Evaluation(model, game, plan, args.split, args.seed, steps, **kit)
        report = evaluation.figures()
        pictures = evaluation.strips() if args.report is not None else None
    report |= told | {"seconds": round(time.perf_counter() - started, 1)}
    print(table(report))
    _write(args, report, pictures, ledger.identity)
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
    """All measurements of a world, flat: see `evaluation.Evaluation`."""
    return Evaluation(model, game, plan, split, seed, steps, progress, ledger or Ledger(), world).figures()


def _plan(args: argparse.Namespace) -> Plan:
    plan = QUICK if args.quick else FULL
    if args.rollouts is None and not args.long:
        return plan
    return dataclasses.replace(plan, battery=measure.drifting(plan.battery, args.rollouts, long=args.long))


def _opened(args: argparse.Namespace, model: WorldModel) -> Figures:
    """Log that the test split is opened, say so, and tell how often it now was for these weights."""
    folder, given = world_path(args.world), [path.parent for path in (args.json, args.report) if path is not None]
    elsewhere = (given or [Path()])[0]
    times = 1 + openings.count(model.fingerprint, folder, elsewhere)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    opening = openings.Opening(now, model.info.name, model.fingerprint, _command(args), args.seed)
    log = openings.note(opening, folder, elsewhere)
    why = "" if log.parent == folder else f" (folder '{folder}' cannot be written to)"
    print(f"test split opened, time {times} for these weights; logged in {log}{why}")
    return {"test_split_opened": times}


def _write(args: argparse.Namespace, report: Figures, pictures: Figures | None, identity: Mapping) -> None:
    """The files asked for; the pictures stand beside the figures too, so that the page can be made again from both."""
    if args.json is not None:
        write_whole(args.json, (json.dumps(report, indent=1) + "\n").encode())
        print(f"written to {args.json}")
    if pictures is None:
        return
    if args.json is not None:
        kept = {"identity": identity, "figures": pictures}
        write_whole(page.strips_beside(args.json), (json.dumps(kept, indent=1) + "\n").encode())
    write_whole(args.report, page.render([page.Entry(str(report["world"]), report, pictures)]).encode())
    print(f"written to {args.report}")


def _ledger(args: argparse.Namespace, told: Figures, plan: Plan) -> Ledger:
    """Where finished parts are kept, for runs that would measure the very same."""
    machine = {key: told[key] for key in told if key not in ("command", "quick", "threads")}
    numbers = {"split": args.split, "seed": args.seed, "steps": args.steps, "batch": plan.batch}
    judged_by = {"source_sha256": _source_sha256(PACKAGE)}
    return Ledger(args.parts, {**machine, **numbers, **judged_by, "plan": dataclasses.asdict(plan)})


def _source_sha256(package: Path) -> str:
    """SHA-256 of all of a package's code: its version may outlive many changes."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _teacher(args: argparse.Namespace, model: WorldModel) -> PremiumWorld | None:
    if args.teacher is None:
        return None
    return PremiumWorld(model, load_teacher(args.teacher, world_path(args.world), model), intervals=args.intervals)


def _teacher_told(args: argparse.Namespace, teacher: PremiumWorld | None) -> Figures:
    if teacher is None:
        return {}
    return {"teacher_sha256": weights_sha256(teacher.denoiser), "teacher_steps": args.intervals}


def _check_arguments(args: argparse.Namespace) -> None:
    """Fail before the work rather than after it."""
    if args.quick and args.teacher is not None:
        raise ValueError("--quick compares no step counts, so it takes no --teacher; leave one of them out")
    for option, path in (("--json", args.json), ("--report", args.report)):
        if path is not None:
            _check_target(path, option)
    if args.report is not None:
        page.check_tools()
    if args.seed < 0:
        raise ValueError(f"seed is {args.seed}; use 0 or more")


def _check_target(path: Path, option: str) -> None:
    if path.is_dir():
        example = path / ("eval" + {"--json": ".json", "--report": ".html"}[option])
        raise ValueError(f"'{path}' is a folder; give the name of a file, such as {example}")
    make_room_for(path)


def _provenance(args: argparse.Namespace, model: WorldModel, game: Game) -> dict[str, str | bool | int]:
    """What makes the figures again: the command, the weights, the machine and the versions."""
    return {
        "world": model.info.name,
        "world_manifest_sha256": model.fingerprint,
        "game": game.name,
        "env_id": game.env_id,
        "resolution": f"{game.width}x{game.height}",
        "quick": args.quick,
        "command": _command(args),
        "dtype": str(model.denoiser.dtype).removeprefix("torch."),
        "device": args.device,
        "device_name": cpu_name() if model.device.type == "cpu" else torch.cuda.get_device_name(model.device),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "version_python": platform.python_version(),
        **{f"version_{name}": _version(name) for name in ("worldsim", "torch", "numpy", *game.packages)},
    }


def _command(args: argparse.Namespace) -> str:
    """The command without the files it wrote, which decide no figure."""
    words = ["worldsim", "eval", str(args.world), "--split", args.split, "--seed", args.seed, "--device", args.device]
    words += ["--steps", args.steps] if args.steps is not None else []
    words += ["--game", args.game] if args.game is not None else []
    words += ["--teacher", args.teacher, "--intervals", args.intervals] if args.teacher is not None else []
    words += ["--rollouts", args.rollouts] if args.rollouts is not None else []
    words += [f"--{name}" for name in ("quick", "long") if vars(args)[name]]
    return shlex.join(map(str, words))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def table(report: dict) -> str:
    """The chief figures of a report as lines to read, floors beside them."""
    r = {key: float("nan") if value is None else value for key, value in report.items()}
    horizons = [int(key.split("_")[1]) for key in r if key.startswith("psnr_")]
    lines = [
        f"{r['split']} split: {r['episodes']} episodes, {r['windows']} windows, {r['steps']} denoising steps",
        "gain over copying the last real frame [95 % interval over episodes]",
        *(
            f"  {h:>2} ahead {_interval(r, f'gain_{h}_db', '+.2f')} dB, PSNR {_psnrs(r, h)}{_other_luck(r, h)}"
            for h in horizons
        ),
        *(_sign_lines(r) if "sign_test_share" in r else ()),
        *(_rollout_lines(r) if "collapsed" in r else ()),
        *_battery_lines(report),
    ]
    return "\n".join(lines)


def _sign_lines(r: Mapping) -> list[str]:
    share, own = _interval(r, "sign_test_share", ".3f"), f"world {r['sign_test_score']:.2f}"
    seen = f"real {r['sign_test_real_score']:.2f}, {r['sign_test_states']} states"
    return ["sign test, share of the real game's own score", f"  {share}, {own}, {seen}"]


def _rollout_lines(r: Mapping) -> list[str]:
    reasons = [f"{name} {r[f'collapsed_{name}']}" for name in REASONS]
    shown = f"; {r['collapsed_shown']} before an end, of which the world said {r['rollouts_ended']}"
    return [
        f"collapsed rollouts of {r['rollout_steps']} steps",
        f"  {r['collapsed']} of {r['rollouts']} ({', '.join(reasons)}){shown if r['rollouts_ended'] else ''}",
        *_end_lines(r),
        *_rate_lines(r),
    ]


def _end_lines(r: Mapping) -> list[str]:
    """The last frames of rollouts; nothing where none was long enough to compare."""
    if "end_rollouts" not in r:
        return []
    ends = (f"{name} {_interval(r, f'end_{name}_ratio', '.2f')}" for name in STATISTICS)
    return [
        f"end of {r['end_rollouts']} rollouts, ratio to the real game's",
        f"  {', '.join(ends)}; colours {r['end_colour_emd']:.2f} levels off",
    ]


def _rate_lines(r: Mapping) -> list[str]:
    """How often random play ends and what it earns; nothing where the real game was not played at random."""
    if "real_random_ends_per_1000" not in r:
        return []
    told = (
        f"{name} {r[f'rollout_{name}_per_1000']:.1f}, really {r[f'real_random_{name}_per_1000']:.1f}"
        for name in ("ends", "reward")
    )
    return ["1,000 steps of random play before an end", f"  {'; '.join(told)}"]


def _battery_lines(report: Mapping) -> list[str]:
    """The battery's figures that have a bar, with what the real game with other luck scores; and what was refused."""
    lines = [
        f"  {_seen(gate)} (wanted {gate.wanted}{_luck(gate)}){'' if gate.verdict == PASS else ' FAILS'}"
        for gate in judge(report)
        if measured_by(gate.key) in INSTRUMENTS and gate.verdict in (PASS, FAIL)
    ]
    lines += [
        f"  no {key.removeprefix('refused_')}: {why}" for key, why in report.items() if key.startswith("refused_")
    ]
    return ["battery", *lines] if lines else []


def _seen(gate: Gate) -> str:
    """A gate's figure, or why it is none."""
    return f"{gate.key}: {gate.why}" if gate.value is None else f"{gate.key} {gate.value:.3f}"


def _luck(gate: Gate) -> str:
    return "" if gate.luck is None else f", real game, other luck {gate.luck:.2f}"


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
