"""Policies in the imagined game and in the real one: whether a world ranks and rewards them as its game does.

    python -m worldsim_training.transfer boxing --json transfer.json
    python -m worldsim_training.transfer boxing --dreamt runs/ppo/policy --awake runs/ppo_real/policy

Every policy plays so many steps from the same real moments: twice in the real game, with other luck, and once in the
imagined one. Told are the rank correlation of its mean returns (Spearman) and MMRV, each beside what the real game
reaches against itself, which is the instrument's own test; the exploit gap X = (imagined - real) / (yardstick - random)
of every policy; and, where policies trained in both games are given, the transfer T = (dreamt - random) / (awake -
random), all of it in the real game. The yardstick is the policies trained in the real game, without any the best of the
others there. Intervals are of 95 %, by resampling of starts and, of correlations, of policies too.

The policies of the game's own set see frames alone (`Game.frame_policies`); others come from examples/ppo_boxing.py. A
policy that is done is in the JSON file, and a run that was ended goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldsim.arguments import natural, positive
from worldsim.world_model import WorldModel
from worldsim_envs.games import Game, source_game
from worldsim_envs.pixel_policy import PixelPolicy, check_policy, policy_hash
from worldsim_training import metrics
from worldsim_training.contests import Contestant, Scripted, Start, Trained, find_starts, play_imagined, play_real
from worldsim_training.episodes import write_whole

RANDOM = "random"
LEAD_IN = (40, 120)
SOUND = 0.9
"""Least rank correlation of the real game with itself at which a ranking means something."""
RESAMPLES = 1000
Returns = dict[str, list[float]]
"""Returns of one policy from every start: `real`, `again` (the real game with other luck) and `imagined`."""


@dataclass(frozen=True)
class Plan:
    """How much is played."""

    starts: int = 32
    steps: int = 300
    denoising: int = 2
    """Denoising steps of an imagined frame."""
    batch: int = 32
    seed: int = 0
    lead_in: tuple[int, int] = LEAD_IN
    """Steps of random play before a start, least and most."""


def measure(
    model: WorldModel,
    game: Game,
    contestants: Mapping[str, Contestant],
    plan: Plan,
    *,
    known: Mapping[str, Returns] | None = None,
    done: Callable[[dict[str, Returns]], object] = lambda returns: None,
) -> dict[str, Returns]:
    """The returns of every contestant. known: those measured before; done: called with all so far after each."""
    starts = find_starts(
        game, plan.starts, model.info.window_frames, np.random.default_rng(plan.seed), lead_in=plan.lead_in
    )
    returns = {name: dict(known[name]) for name in contestants if known and name in known}
    for name in tqdm([name for name in contestants if name not in returns], unit="policy", desc="transfer"):
        returns[name] = _contest(model, game, contestants[name], starts, plan)
        done(returns)
    return {name: returns[name] for name in contestants}


def _contest(model: WorldModel, game: Game, contestant: Contestant, starts: Sequence[Start], plan: Plan) -> Returns:
    how = {"denoising": plan.denoising, "batch": plan.batch}
    real, again = (play_real(game, contestant, starts, plan.steps, 3 * plan.seed + luck) for luck in (0, 1))
    imagined = play_imagined(model, contestant, starts, plan.steps, 3 * plan.seed + 2, **how)
    return {name: each.tolist() for name, each in (("real", real), ("again", again), ("imagined", imagined))}


def summary(
    returns: Mapping[str, Returns], *, dreamt: Sequence[str] = (), awake: Sequence[str] = (), seed: int = 0
) -> dict:
    """The figures of the module's text, from the returns of all policies, of which "random" is one.

    dreamt, awake: names of those trained in the imagined and in the real game.
    """
    names = list(returns)
    scores = {kind: np.array([returns[name][kind] for name in names]) for kind in ("real", "again", "imagined")}
    chance = names.index(RANDOM)
    best = [names.index(name) for name in awake] or [int(scores["real"].mean(axis=1).argmax())]
    told = {"policies": len(names), "starts": scores["real"].shape[1], "yardstick": ", ".join(names[i] for i in best)}
    for kind, label in (("imagined", "rank"), ("again", "rank_real_again")):
        told |= _ranking(label, scores["real"], scores[kind], np.random.default_rng(seed))
    told["instrument_sound"] = bool(told["rank_real_again_correlation"] >= SOUND)
    room = (scores["real"][best].mean() - scores["real"][chance].mean()) or float("nan")
    told["policy"] = [_of_policy(name, row, scores, room, seed) for row, name in enumerate(names)]
    if dreamt and awake:
        told |= _transfer(scores["real"], [names.index(name) for name in dreamt], best, chance, seed)
    return told


def _ranking(label: str, real: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Spearman and MMRV over policies of returns (P, S), with an interval over policies and starts."""
    drawn = []
    for _ in range(RESAMPLES):
        rows, columns = (rng.integers(size, size=size) for size in real.shape)
        drawn.append(metrics.spearman(*(each[rows][:, columns].mean(axis=1) for each in (real, other))))
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if not np.isnan(drawn).all() else (np.nan, np.nan)
    means = real.mean(axis=1), other.mean(axis=1)
    figures = {"correlation": metrics.spearman(*means), "correlation_low": low, "correlation_high": high}
    figures["mmrv"] = metrics.mean_maximum_rank_violation(*means)
    return {f"{label}_{name}": float(value) for name, value in figures.items()}


def _of_policy(name: str, row: int, scores: Mapping[str, np.ndarray], room: float, seed: int) -> dict:
    """A policy's mean returns and gaps. room: the yardstick's gain over random play, taken as certain."""
    real, again, imagined = (scores[kind][row] for kind in ("real", "again", "imagined"))
    rows = {"real": real, "real_again": again, "imagined": imagined}
    rows |= {"exploit_gap": (imagined - real) / room, "exploit_gap_real_again": (again - real) / room}
    told: dict = {"name": name}
    for label, values in rows.items():
        told |= _with_interval(label, lambda at, values=values: float(values[at].mean()), len(values), seed)
    return told


def _transfer(
    real: np.ndarray, dreamt: Sequence[int], awake: Sequence[int], chance: int, seed: int
) -> dict[str, float]:
    """T over the real returns (P, S), the starts resampled for all policies alike."""

    def ratio(at: np.ndarray) -> float:
        dream, sober, blind = (real[rows][..., at].mean() for rows in (list(dreamt), list(awake), [chance]))
        return float((dream - blind) / (sober - blind)) if sober != blind else float("nan")

    return _with_interval("transfer", ratio, real.shape[1], seed)


def _with_interval(label: str, statistic: Callable[[np.ndarray], float], count: int, seed: int) -> dict[str, float]:
    """A statistic of the starts at some indices, with the interval under resampling of them."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {label: statistic(np.arange(count)), f"{label}_low": float(low), f"{label}_high": float(high)}


def table(told: Mapping) -> str:
    """The figures as lines to read."""
    lines = ["| policy | real | real again | imagined | exploit gap |", "|---|---|---|---|---|"]
    for each in sorted(told["policy"], key=lambda policy: policy["real"]):
        cells = [_cell(each, label) for label in ("real", "real_again", "imagined", "exploit_gap")]
        lines.append("| " + " | ".join([each["name"], *cells]) + " |")
    lines.append(f"rank correlation over {told['policies']} policies: {_cell(told, 'rank_correlation')}")
    sound = (
        "" if told["instrument_sound"] else f"; below {SOUND}: take more --starts or --steps before it means anything"
    )
    lines.append(f"the real game with itself: {_cell(told, 'rank_real_again_correlation')}{sound}")
    lines.append(f"MMRV {told['rank_mmrv']:.2f}, the real game with itself {told['rank_real_again_mmrv']:.2f}")
    lines += [f"transfer {_cell(told, 'transfer')}"] if "transfer" in told else []
    return "\n".join([*lines, f"yardstick: {told['yardstick']}, {told['starts']} starts"])


def _cell(told: Mapping, label: str) -> str:
    return f"{told[label]:.2f} [{told[f'{label}_low']:.2f}, {told[f'{label}_high']:.2f}]"


def contestants(kind: type[Game], model: WorldModel, policies: Sequence[Path], device: str) -> dict[str, Contestant]:
    """The game's own frame policies, and those of the given folders under the folders' names."""
    found: dict[str, Contestant] = {name: Scripted(factory) for name, factory in kind.frame_policies().items()}
    for path in policies:
        policy = PixelPolicy.from_pretrained(path, device=device)
        check_policy(policy, (model.info.height, model.info.width, 3), model.actions, path)
        if str(path) in found:
            raise ValueError(f"policy '{path}' is given twice")
        found[str(path)] = Trained(policy)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when all was measured, whatever the figures."""
    args = read_arguments(argv)
    try:
        return run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"transfer: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON file."""
    model = WorldModel.from_pretrained(args.world, device=args.device)
    kind = source_game(model.info.env_id, args.game)
    steps = model.info.default_steps if args.denoising is None else args.denoising
    model.info.sigmas(steps)
    plan = Plan(args.starts, args.steps, steps, args.batch, args.seed, tuple(args.lead_in))
    entrants = contestants(kind, model, [*args.dreamt, *args.awake, *args.policy], args.device)
    identity = {"world": str(args.world), "checkpoint": model.fingerprint, "game": kind.name}
    identity |= {"plan": json.loads(json.dumps(asdict(plan))), "device": args.device}

    weights = {str(path): policy_hash(path) for path in (*args.dreamt, *args.awake, *args.policy)}

    def write(returns: dict[str, Returns], **told) -> None:
        write_whole(args.json, to_json(identity | told | {"weights": weights, "returns": returns}).encode())

    with kind() as game:
        returns = measure(model, game, entrants, plan, known=_known(args.json, identity, weights), done=write)
    names = {"dreamt": list(map(str, args.dreamt)), "awake": list(map(str, args.awake))}
    told = summary(returns, **names, seed=args.seed)
    write(returns, **told)
    print(table(told))
    return 0


def to_json(figures: Mapping) -> str:
    """The figures as JSON, which has no NaN: null stands for what is not defined, such as a rank among equals."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return json.dumps(plain(figures), indent=1, allow_nan=False) + "\n"


def _known(path: Path, identity: Mapping, weights: Mapping[str, str]) -> dict[str, Returns]:
    """The returns that an earlier run kept, of policies with these weights; ValueError where it measured something
    else."""
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in identity if kept[key] != identity[key]]
        there = kept.get("weights", {})
        returns = {
            name: {kind: [math.nan if each is None else each for each in values] for kind, values in kinds.items()}
            for name, kinds in kept["returns"].items()
            if there.get(name) == weights.get(name)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"'{path}' holds no transfer figures; choose another --json") from None
    if other:
        raise ValueError(f"'{path}' holds figures with another {', '.join(other)}; choose another --json")
    return returns


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the user asks for."""
    layout, plan = argparse.RawDescriptionHelpFormatter, Plan()
    parser = argparse.ArgumentParser(prog="worldsim_training.transfer", description=__doc__, formatter_class=layout)
    parser.add_argument("world", nargs="?", default="boxing", help="a shipped world or a folder (default: boxing)")
    parser.add_argument("--json", type=Path, default=Path("transfer.json"), help="figures (default: transfer.json)")
    folders = {"type": Path, "nargs": "*", "default": [], "metavar": "FOLDER"}
    parser.add_argument("--dreamt", **folders, help="policies trained in the imagined game")
    parser.add_argument("--awake", **folders, help="policies trained in the real game")
    parser.add_argument("--policy", **folders, help="other policies, such as earlier checkpoints")
    parser.add_argument("--starts", type=positive(int), default=plan.starts, help=f"default: {plan.starts}")
    parser.add_argument(
        "--steps", type=positive(int), default=plan.steps, help=f"of an episode (default: {plan.steps})"
    )
    parser.add_argument("--denoising", type=int, help="denoising steps a frame (default: the world's own)")
    parser.add_argument(
        "--batch", type=positive(int), default=plan.batch, help=f"worlds at once (default: {plan.batch})"
    )
    parser.add_argument("--lead-in", type=natural, nargs=2, default=LEAD_IN, metavar=("LEAST", "MOST"))
    parser.add_argument("--seed", type=natural, default=0, help="of starts, luck, policies and noise (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--game", help="your own adapter of the real game, as module:Class (default: a known one)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
