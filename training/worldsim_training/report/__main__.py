"""The report's page of evaluations that are done: of one, or of several checkpoints side by side.

    python -m worldsim_training.report eval.json --out report.html
    python -m worldsim_training.report first.json second.json --out compared.html

Film strips are those that `worldsim eval --json eval.json --report ...` kept beside the figures, in eval.strips.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from worldsim_training.episodes import write_whole
from worldsim_training.report import page, strips


def main(argv: list[str] | None = None) -> int:
    """The command."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="worldsim_training.report", description=__doc__, formatter_class=layout)
    parser.add_argument("json", type=Path, nargs="+", help="figures that worldsim eval --json wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.add_argument("--strips", type=Path, metavar="FILE", help="of a single evaluation: its strips, if elsewhere")
    args = parser.parse_args(argv)
    try:
        if args.strips is not None and len(args.json) > 1:
            raise ValueError("--strips is for one evaluation; of several, each keeps its strips beside its figures")
        write_whole(args.out, page.render(read_entries(args.json, args.strips)).encode())
    except (ValueError, OSError, ImportError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"written to {args.out}")
    return 0


def read_entries(files: Sequence[Path], pictures: Path | None = None) -> list[page.Entry]:
    """Evaluations with their strips, where they are kept; each under a label that no other has."""
    told = [read_figures(file) for file in files]
    return [
        page.Entry(label, figures, _strips(pictures or page.strips_beside(file), figures, pictures is not None))
        for label, figures, file in zip(_labels(files, told), told, files, strict=True)
    ]


def read_figures(file: Path) -> dict:
    """The figures of an evaluation; ValueError for a file that holds none."""
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        figures = None
    if not isinstance(figures, dict) or "world" not in figures:
        raise ValueError(f"'{file}' holds no figures of a world; worldsim eval --json writes such a file")
    if nested := [key for key, value in figures.items() if isinstance(value, dict | list)]:
        raise ValueError(f"'{file}' is not flat: {nested[0]} is no single figure; worldsim eval --json writes it flat")
    return figures


def _strips(file: Path, figures: Mapping, asked: bool) -> Mapping | None:
    return strips.read(file, figures) if asked or file.is_file() else None


def _labels(files: Sequence[Path], told: Sequence[Mapping]) -> list[str]:
    """The world's name where it tells the evaluations apart, else the file's, else its whole path."""
    for names in ([str(each["world"]) for each in told], [file.stem for file in files], [str(file) for file in files]):
        if len(set(names)) == len(names):
            return names
    raise ValueError("the same figures are given twice")


if __name__ == "__main__":
    sys.exit(main())
