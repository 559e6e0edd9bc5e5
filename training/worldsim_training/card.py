"""The model card of a world's folder, from the figures of its evaluation.

    worldsim eval my_world --json eval.json
    python -m worldsim_training.card eval.json my_world --bench bench.json --npc npc.json

What people wrote in the folder's present card (what the world is, its data, its training, its limits) is kept word for
word; the measured part and the header's metrics are written anew, from figures of the very same weights only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from worldsim.info import CARD
from worldsim.world_files import read_index
from worldsim.worlds import MANIFEST, world_path
from worldsim_training import npc_score
from worldsim_training.battery.verdicts import FAIL, PASS, REFUSED, UNMEASURED, Gate, judge
from worldsim_training.episodes import write_whole
from worldsim_training.report.__main__ import read_figures
from worldsim_training.report.plots import horizons
from worldsim_training.report.words import number, opened, out_of, title

HEADLINE = (
    *("gain_1_db", "gain_16_db", "sign_test_share", "control_c", "action_ratio", "onset_error"),
    *("probe_ratio_16_worst", "reward_f1", "end_recall", "collapsed", "drift_1000_collapsed"),
)
"""The figures in the card's header, which `worldsim info` prints."""
HEADER = {
    "library_name": "worldsim",
    "pipeline_tag": "reinforcement-learning",
    "tags": ["world-model", "video-generation", "gymnasium"],
}
MEASURED = "Measured"
UNTOLD = ("Data", "Training", "Limits")
"""Sections that only people can write."""
STEPS = {"control_c": "control C", "action_ratio": "actions recovered", "reward_f1": "reward F1"}


def write_card(
    figures: Mapping,
    folder: Path,
    speed: Mapping | None = None,
    npc: Mapping | None = None,
    *,
    given: str | None = None,
) -> str:
    """The card's text. speed: figures of `worldsim bench`; npc: of `npc_score`; given: what plays the world, a shipped
    world's name or else the folder. ValueError where some figures are of other weights."""
    mark = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    for told, command in ((figures, "worldsim eval"), (speed, "worldsim bench"), (npc, "npc_score")):
        if told is not None and told.get("world_manifest_sha256") != mark:
            seen = str(told.get("world_manifest_sha256"))[:12]
            raise ValueError(
                f"the figures are of manifest {seen}..., folder '{folder}' has {mark[:12]}...; {command} it"
            )
    present = folder / CARD
    header, lead, sections = _read(present.read_text(encoding="utf-8")) if present.is_file() else ({}, "", {})
    index = read_index(folder)
    header |= {key: value for key, value in HEADER.items() if key not in header}
    header["model-index"] = [{"name": figures["world"], "results": [_result(figures, speed), *_npc_result(npc)]}]
    told = dict(sections) or {"What it is": _network(index, folder)}
    told |= {name: "Not told." for name in UNTOLD if name not in told}
    told[MEASURED] = _measured(figures, folder, speed, npc)
    body = "\n\n".join(f"## {name}\n\n{told[name]}" for name in _order(told))
    return f"---\n{_yaml(header)}---\n\n{lead or _lead(index, given or str(folder))}\n\n{body}\n"


def _read(text: str) -> tuple[dict, str, dict[str, str]]:
    """Header, what stands before the first section, and the sections of a card."""
    match = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    header = yaml.safe_load(match[1]) if match else {}
    lead, *rest = re.split(r"^## ", text[match.end() :] if match else text, flags=re.MULTILINE)
    sections = (part.partition("\n") for part in rest)
    return header, lead.strip(), {name.strip(): words.strip() for name, _, words in sections}


def _order(sections: Mapping[str, str]) -> list[str]:
    """As they stand, but what was measured comes before the limits."""
    names = [name for name in sections if name != MEASURED]
    at = names.index("Limits")
    return [*names[:at], MEASURED, *names[at:]]


def _yaml(header: Mapping) -> str:
    return yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=100)


def _result(figures: Mapping, speed: Mapping | None) -> dict:
    values = {key: figures[key] for key in HEADLINE if figures.get(key) is not None}
    values |= {"fps_all_in": speed["fps_all_in"]} if speed else {}
    return _metrics(values, f"{figures['env_id']}, {figures['split']} seeds")


def _npc_result(npc: Mapping | None) -> list[dict]:
    values = {key: npc[key] for key in npc_score.BARS if key in npc} if npc else {}
    return [_metrics(values, f"{npc['env_id']}, held-out openings")] if values else []


def _metrics(values: Mapping, dataset: str) -> dict:
    return {
        "task": {"type": "reinforcement-learning", "name": "world model"},
        "dataset": {"type": "recording", "name": dataset},
        "metrics": [{"type": key, "value": float(f"{value:.4g}")} for key, value in values.items()],
    }


def _lead(index: Mapping, given: str) -> str:
    world, names = index["world"], index["actions"].get("names") or index["actions"]["channels"]
    frame = f"{world['width']}x{world['height']} pixels, {world['fps']} frames a second, {len(names)} actions"
    name = world["name"]
    return f"# {name.capitalize()}\n\nAn imagined `{world['env_id']}`: {frame}. `worldsim play {shlex.quote(given)}`."


def _network(index: Mapping, folder: Path) -> str:
    config = json.loads((folder / "denoiser" / "config.json").read_text(encoding="utf-8"))
    sizes = ", ".join(f"{key} {config[key]}" for key in ("dim", "depth", "heads", "window") if key in config)
    steps = ", ".join(map(str, index["world"]["step_choices"]))
    return (
        f"A frame-wise causal diffusion model (`{index['denoiser'][1]}`: {sizes}) that answers each frame in {steps}"
        f" network calls, {index['world']['default_steps']} unless asked, and remembers"
        f" {index['world']['window_frames']} frames."
    )


def _measured(figures: Mapping, folder: Path, speed: Mapping | None, npc: Mapping | None) -> str:
    answers = npc_score.judged(npc) if npc else []
    told = {gate.key for gate in answers}
    gates = [gate for gate in judge(figures) if gate.verdict != UNMEASURED or gate.key not in told]
    rows = [
        *_gains(figures),
        *(_row(gate, figures) for gate in gates if gate.verdict in (PASS, FAIL) and not _gain(gate)),
    ]
    rows += [*(_npc_row(gate, npc) for gate in answers), *_by_steps(figures), *_speed(speed), _size(folder)]
    table = "\n".join(("| what | measured | floor, ceiling or bar | verdict |", "|---|---|---|---|", *rows))
    return "\n\n".join((table, *_missing(gates + answers, figures), _again(figures, speed, npc)))


def _gain(gate: Gate) -> bool:
    return re.fullmatch(r"gain_\d+_db", gate.key) is not None


def _gains(figures: Mapping) -> list[str]:
    gates = {gate.key: gate for gate in judge(figures)}
    return [_gain_row(h, figures, gates.get(f"gain_{h}_db")) for h in horizons(figures, r"gain_(\d+)_db")]


def _gain_row(h: int, figures: Mapping, gate: Gate | None) -> str:
    key = f"gain_{h}_db"
    what = f"{h} steps ahead, free-running" if h > 1 else "1 step ahead"
    known = [f"PSNR {figures[f'psnr_{h}_db']:.2f} against {figures[f'floor_{h}_db']:.2f} dB"]
    if figures.get(f"reroll_{h}_db") is not None:
        mean = f"the mean of {figures['reroll_branches']} such games {figures[f'reroll_mean_{h}_db']:.2f}"
        known.append(f"the real game with other luck {figures[f'reroll_{h}_db']:.2f}, {mean}")
    known += [f"wanted {gate.wanted}"] if gate else []
    value = f"**{figures[key]:.2f} dB** [{figures[f'{key}_low']:.2f}, {figures[f'{key}_high']:.2f}]"
    return (
        f"| gain over copying the last frame, {what} | {value} | {'; '.join(known)} | {gate.verdict if gate else ''} |"
    )


def _row(gate: Gate, figures: Mapping) -> str:
    value = f"**{number(gate.value)}{out_of(gate.key, figures)}**"
    ends = f" [{number(gate.interval[0])}, {number(gate.interval[1])}]" if gate.interval else ""
    return f"| {title(gate.key)} | {value}{ends} | {_wanted(gate)} | {gate.verdict} |"


def _npc_row(gate: Gate, npc: Mapping) -> str:
    """A figure of `npc_score`, of how many trials; beside the answers the worst kind, and what the reader misses."""
    counted = npc.get(f"{gate.key}_counted", npc.get("states"))
    value = f"**{number(gate.value)}**" + (f" of {counted:.0f}" if counted is not None else "")
    known = _wanted(gate)
    if gate.key == "answers":
        share, gesture, temperament = npc_score.least_right(npc)
        value += f"; least {number(share)} ({temperament}, {gesture})"
        real = f"{npc['reader_answers']:.3f} of {npc['reader_answers_counted']:.0f}"
        known += f"; its reader is right in {real} of the game itself"
    return f"| {title(gate.key)} | {value} | {known} | {gate.verdict} |"


def _wanted(gate: Gate) -> str:
    luck = f"; the real game with other luck {number(gate.luck)}" if gate.luck is not None else ""
    return f"wanted {gate.wanted}{luck}"


def _by_steps(figures: Mapping) -> list[str]:
    rows = []
    for key, words in STEPS.items():
        at = horizons(figures, rf"steps_(\d+)_{key}")
        values = ", ".join(number(figures[f"steps_{n}_{key}"]) for n in at)
        if (teacher := figures.get(f"teacher_{key}")) is not None:
            values += f"; its teacher at {figures['teacher_steps']} steps {number(teacher)}"
        rows += (
            [f"| {words} at {', '.join(map(str, at))} denoising steps | {values} | on fewer trials | |"] if at else []
        )
    return rows


def _speed(speed: Mapping | None) -> list[str]:
    if speed is None:
        return []
    where = f"{speed['steps']} steps, {speed['device']}, {speed['threads']} threads of {speed['cpu']}"
    value = f"**{speed['fps_all_in']:.1f}** ({speed['frame_ms_p95']:.0f} ms p95)"
    return [f"| frames a second, all in: {where} | {value} | the game runs at {speed['game_fps']} | |"]


def _size(folder: Path) -> str:
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return f"| world on disk | {sum(entry['bytes'] for entry in files.values()) / 1e6:.1f} MB | | |"


def _missing(gates: list[Gate], figures: Mapping) -> list[str]:
    """What did not pass or gave no figure, by name."""
    failing = [title(gate.key) for gate in gates if gate.verdict == FAIL]
    reasons: dict[str, list[str]] = {}
    for gate in gates:
        if gate.verdict == REFUSED:
            reasons.setdefault(gate.why, []).append(title(gate.key))
    refused = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
    unread = figures.get("probe_refused")
    refused += [f"the state numbers {unread}, which the probe does not read on real frames"] if unread else []
    unmeasured = [title(gate.key) for gate in gates if gate.verdict == UNMEASURED]
    told = (("Does not pass", failing), ("Refused by their own check", refused), ("Not measured", unmeasured))
    return [f"{words}: {'; '.join(names)}." for words, names in told if names]


def _again(figures: Mapping, speed: Mapping | None, npc: Mapping | None) -> str:
    versions = ", ".join(
        f"{key.removeprefix('version_')} {value}" for key, value in figures.items() if key.startswith("version_")
    )
    commands = [f"    {told['command']}" for told in (figures, speed, npc) if told]
    threads = f"{figures['threads']} {'thread' if figures['threads'] == 1 else 'threads'}"
    where = f"{figures.get('device_name', figures['device'])}, {threads}"
    return (
        f"{figures['split'].capitalize()} split{_opened(figures)}, {figures['steps']} steps,"
        f" {figures['episodes']} episodes, {figures['windows']} windows, seed {figures['seed']},"
        f" manifest `{figures['world_manifest_sha256'][:12]}`;"
        f" in brackets 95 % intervals over episodes. {where}; {versions}.\n\n" + "\n".join(commands)
    )


def _opened(figures: Mapping) -> str:
    return f" ({opened(figures)})" if figures["split"] == "test" else ""


def main(argv: list[str] | None = None) -> int:
    """The command."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="worldsim_training.card", description=__doc__, formatter_class=layout)
    parser.add_argument("json", type=Path, help="figures that worldsim eval --json wrote")
    parser.add_argument("world", help="name of a shipped world, or a world's folder")
    parser.add_argument("--bench", type=Path, metavar="FILE", help="figures that worldsim bench --json wrote")
    parser.add_argument("--npc", type=Path, metavar="FILE", help="figures that npc_score --json wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the card here (default: into the folder)")
    args = parser.parse_args(argv)
    try:
        folder = world_path(args.world)
        speed, npc = (read_figures(file) if file is not None else None for file in (args.bench, args.npc))
        out = args.out or folder / CARD
        text = write_card(read_figures(args.json), folder, speed, npc, given=args.world)
        write_whole(out, text.encode())
    except (ValueError, OSError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 2
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
