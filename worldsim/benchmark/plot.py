"""The picture of a benchmark: every frame's time, and where a frame's time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

STAGES = ("paint_ms", "heads_ms", "commit_ms", "convert_ms")


def write_plot(path: Path, times_ms: Sequence[float], report: Mapping[str, float | int | str]) -> None:
    """Write the frame times and the stages as one picture, in the format of the file's suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    left.plot(times_ms, linewidth=0.8)
    for share in ("p50", "p95", "p99"):
        left.axhline(report[f"frame_ms_{share}"], linewidth=0.6, linestyle="--", color="grey")
        left.annotate(share, (len(times_ms), report[f"frame_ms_{share}"]), fontsize=7)
    left.set(xlabel="frame", ylabel="ms", ylim=(0, None))
    left.set_title(
        f"{report['world']}: {report['fps_all_in']:.1f} frames/s all in, {report['steps']} steps", fontsize=9
    )
    foot = 0.0
    for stage in STAGES:
        right.bar(0, report[stage], bottom=foot, label=f"{stage.removesuffix('_ms')} {report[stage]:.1f} ms")
        foot += report[stage]
    right.set(xlim=(-0.6, 0.6), xticks=[], ylabel="ms")
    right.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
