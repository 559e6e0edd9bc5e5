"""The comparison of stems and context spoiling: `python -m worldsim_training.compare --data FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worldsim_training.journal import read_log

VARIANTS = {
    "patch": ("stem_kind=patch", "previous_frame=false", "context.painted_share=0.0"),
    "conv": ("stem_kind=conv", "previous_frame=false", "context.painted_share=0.0"),
    "conv_previous": ("stem_kind=conv", "previous_frame=true", "context.painted_share=0.0"),
    "conv_previous_painted": ("stem_kind=conv", "previous_frame=true", "context.painted_share=0.5"),
}
UNLIMITED = 10**9
COLUMNS = ("gain_1_db", "gain_4_db", "gain_16_db", "gain_64_db", "motion_ratio", "sharpness_ratio")


def command(variant: str, data: Path, out: Path, seconds: float, extra: Sequence[str] = ()) -> list[str]:
    """The training command of one variant: teacher forcing at a constant learning rate, for so many seconds."""
    settings = [f"world.{key}" if "." in key.split("=")[0] else f"world.model.{key}" for key in VARIANTS[variant]]
    fixed = ["stage=teacher_forcing", "gates.enabled=false", f"out={out / variant}", f"world.data.folder={data}"]
    budget = {"seconds": seconds, "steps": UNLIMITED, "decay": 0.0}
    timed = [f"world.teacher_forcing.loop.{key}={value}" for key, value in budget.items()]
    return [sys.executable, "-m", "worldsim_training", *fixed, *timed, *settings, *extra]


def table(out: Path) -> str:
    """Markdown table of the variants that have finished: updates, seconds and the scores of every sampler."""
    rows = ["| variant | updates | seconds | steps | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 4) + "|"]
    for variant in VARIANTS:
        folder = out / variant / "teacher_forcing"
        if not (folder / "validation.json").is_file():
            continue
        *_, last = read_log(folder)
        for steps, scores in json.loads((folder / "validation.json").read_text()).items():
            cells = [variant, last["step"], last["seconds"], steps.replace("_", " ").removesuffix(" step")]
            cells += [f"{scores[column]:.2f}" if column in scores else "" for column in COLUMNS]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    """Train every variant for the same seconds and print the table; other arguments go to the training command."""
    parser = argparse.ArgumentParser(prog="python -m worldsim_training.compare", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the recording")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of table.md")
    parser.add_argument("--seconds", type=float, default=600.0, help="training time of each variant")
    parser.add_argument("--together", action="store_true", help="train all variants at once, on one large device")
    args, extra = parser.parse_known_args()
    running = []
    for variant in VARIANTS:
        running.append(subprocess.Popen(command(variant, args.data, args.out, args.seconds, extra)))
        if not args.together:
            running[-1].wait()
    if any(process.wait() for process in running):
        raise SystemExit("compare: a variant failed; its message is above")
    (args.out / "table.md").write_text(table(args.out) + "\n")
    print(table(args.out))


if __name__ == "__main__":
    main()
