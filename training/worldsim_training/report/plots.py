"""The report's plots: each with its floor and its ceiling, in one theme for light and one for dark."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Series = Sequence[tuple[str, Mapping]]
"""(label, figures) of every checkpoint."""

WIDTH_INCHES, HEIGHT_INCHES = 5.4, 3.5
RATIOS = ("motion", "sharpness", "saturation")
REROLLS = (
    ("reroll_{}_db", "ceiling: the real game, other luck", "--"),
    ("reroll_mean_{}_db", "ceiling: mean of such games", ":"),
)
STEP_PANELS = {
    "control_c": ("control C", 0.0, 1.0, None),
    "action_ratio": ("actions recovered, ratio", None, 1.0, None),
    "reward_f1": ("reward F1", "reward_f1_always", None, "luck_reward_f1"),
    "picture_gain_1_db": ("gain, 1 ahead (dB)", 0.0, None, "luck_picture_gain_1_db"),
}
"""Of each panel: its title, floor and ceiling, as numbers or the keys that hold them."""


@dataclass(frozen=True)
class Theme:
    """Colours of one scheme."""

    ink: str
    faint: str
    lines: Sequence[str]


LIGHT = Theme("#24292f", "#8c959f", ("#0b62c4", "#c2410c", "#15803d", "#7c3aed", "#be185d", "#0f766e"))
DARK = Theme("#e6edf3", "#8b949e", ("#6cb2ff", "#ff9f5a", "#5bd38a", "#c29bff", "#ff8ac0", "#5eead4"))


@dataclass(frozen=True)
class Plot:
    """A plot in both themes, as SVG in base64."""

    title: str
    note: str
    light: str
    dark: str


def check_tools() -> None:
    """ModuleNotFoundError where the plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError(
            'a report needs matplotlib: pip install "worldsim[eval]"', name="matplotlib"
        ) from None


def draw_all(series: Series) -> list[Plot]:
    """Every plot for which at least one checkpoint has figures."""
    return [_plot(series, *each) for each in _PLOTS if any(_drawable(each[0], figures) for _, figures in series)]


def horizons(figures: Mapping, pattern: str) -> list[int]:
    """The numbers h for which there is a figure, where `pattern` matches its whole key and groups h; rising."""
    found = (re.fullmatch(pattern, key) for key, value in figures.items() if value is not None)
    return sorted(int(match[1]) for match in found if match)


def _plot(series: Series, needs: str, title: str, note: str, draw: Callable) -> Plot:
    told = [(label, figures) for label, figures in series if _drawable(needs, figures)]
    return Plot(title, note, *(_svg(told, draw, theme) for theme in (LIGHT, DARK)))


def _drawable(needs: str, figures: Mapping) -> bool:
    return any(re.fullmatch(needs, key) and value is not None for key, value in figures.items())


def _svg(series: Series, draw: Callable, theme: Theme) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # A fixed salt and no date: the same figures give the same page.
    settings = {"svg.hashsalt": "worldsim", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), theme.ink)
    with matplotlib.rc_context(settings | inks | {"axes.facecolor": "none", "legend.frameon": False}):
        height = HEIGHT_INCHES + 0.35 * (len(series) - 1)  # its legend grows
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained", facecolor="none")
        draw(figure, series, theme)
        data = io.BytesIO()
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    return base64.b64encode(data.getvalue()).decode("ascii")


def _draw_gains(figure, series: Series, theme: Theme) -> None:
    axes = figure.subplots()
    for color, (label, figures) in _coloured(series, theme):
        at = horizons(figures, r"gain_(\d+)_db")
        _curve(axes, at, figures, "gain_{}_db", color, label, marker="o")
        for name, words, style in REROLLS:
            _curve(axes, at, figures, name, color, words, linestyle=style, alpha=0.7)
    _floor(axes, 0, theme, "floor: copying")
    _finish(axes, "steps ahead", "gain (dB)", log=True)


def _draw_psnr(figure, series: Series, theme: Theme) -> None:
    axes = figure.subplots()
    for color, (label, figures) in _coloured(series, theme):
        at = horizons(figures, r"psnr_(\d+)_db")
        _curve(axes, at, figures, "psnr_{}_db", color, label, marker="o")
        _curve(axes, at, figures, "floor_{}_db", theme.faint, "floor: copying", linestyle="-.")
        tops = [h for h in at if figures.get(f"reroll_{h}_db") is not None]
        heights = [figures[f"floor_{h}_db"] + figures[f"reroll_{h}_db"] for h in tops]
        axes.plot(tops, heights, color=color, linestyle="--", alpha=0.7, label="ceiling: the real game, other luck")
    _finish(axes, "steps ahead", "pooled PSNR (dB)", log=True)


def _draw_onset(figure, series: Series, theme: Theme) -> None:
    axes = figure.subplots()
    for color, (label, figures) in _coloured(series, theme):
        at = horizons(figures, r"onset_(\d+)")
        _curve(axes, at, figures, "onset_{}", color, label, marker="o")
        _curve(axes, at, figures, "luck_onset_{}", color, "the real game, other luck", linestyle="--", alpha=0.7)
    _, figures = series[-1]
    at = horizons(figures, r"onset_real_(\d+)")
    _curve(axes, at, figures, "onset_real_{}", theme.ink, "ceiling: the real game's frames", marker="s", markersize=4)
    _curve(axes, at, figures, "onset_state_{}", theme.ink, "the real game's state", linestyle=":")
    _floor(axes, 0, theme, "floor: no answer")
    _finish(axes, "steps after the player's choice", "opponent's paths have parted", log=True)


def _draw_steps(figure, series: Series, theme: Theme) -> None:
    for axes, (key, (title, floor, top, luck)) in zip(figure.subplots(2, 2).flat, STEP_PANELS.items(), strict=True):
        for color, (label, figures) in _coloured(series, theme):
            at = horizons(figures, rf"steps_(\d+)_{key}")
            _curve(axes, at, figures, f"steps_{{}}_{key}", color, label, marker="o")
            low = figures.get(f"steps_{at[0]}_{floor}" if at else "") if isinstance(floor, str) else floor
            high = figures.get(luck) if luck else top
            for value, style, ink in (
                (low, ":", theme.faint),
                (high, "--", theme.faint),
                (figures.get(f"teacher_{key}"), "-.", color),
            ):
                if value is not None:
                    axes.axhline(value, color=ink, linestyle=style)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([1, 2, 4], ["1", "2", "4"])
    figure.supxlabel("denoising steps a frame; dotted: floor, dashed: ceiling, dash-dotted: teacher", fontsize=10)


def _draw_probes(figure, series: Series, theme: Theme) -> None:
    first = series[0][1]
    h = min(horizons(first, r"probe_mae_(\d+)_\w+"))
    names = [key.removeprefix(f"probe_mae_{h}_") for key in first if key.startswith(f"probe_mae_{h}_")]
    marks = (("probe_mae_still_{}_{}", "_", "floor: copying"), ("luck_probe_mae_{}_{}", "D", "ceiling: other luck"))
    _bars(figure, series, theme, names, f"probe_mae_{h}_{{}}", [(m.format(h, "{}"), *rest) for m, *rest in marks])
    figure.axes[0].set_ylabel(f"error after {h} steps (own units)")


def _draw_actions(figure, series: Series, theme: Theme) -> None:
    names = [
        key.removeprefix("action_f1_")
        for key in series[0][1]
        if re.fullmatch(r"action_f1_(?!real_)\w+", key) and not key.endswith(("_low", "_high"))
    ]
    marks = [("action_f1_real_{}", "D", "ceiling: real frames"), ("action_ceiling_{}", "_", "what branches allow")]
    _bars(figure, series, theme, names, "action_f1_{}", marks)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[0].set_ylabel("macro-F1 (floor: 0)")


def _draw_drift(figure, series: Series, theme: Theme) -> None:
    axes = figure.subplots()
    axes.axhspan(0.9, 1.1, color=theme.faint, alpha=0.2, linewidth=0, label="bar: .9 to 1.1")
    axes.axhline(1, color=theme.faint, linestyle="--", label="ceiling: real frames")
    _floor(axes, 0, theme, "floor: a still picture's motion")
    for color, (label, figures) in _coloured(series, theme):
        for name, marker in zip(RATIOS, "osD", strict=True):
            key = f"drift_{{}}_end_{name}_ratio"
            at = {t: figures[key.format(t)] for t in horizons(figures, key.format(r"(\d+)"))}
            if figures.get("rollout_steps") and figures.get(f"end_{name}_ratio") is not None:
                at[figures["rollout_steps"]] = figures[f"end_{name}_ratio"]
            pairs = sorted(at.items())
            axes.plot(*zip(*pairs, strict=True), color=color, marker=marker, label=_of(label, name, series))
    _finish(axes, "imagined steps", "ratio to real frames")


def _bars(figure, series: Series, theme: Theme, names: Sequence[str], key: str, marks: Sequence[tuple]) -> None:
    """A group of bars for every name, one for each checkpoint, with marks for floors and ceilings."""
    axes, width = figure.subplots(), 0.8 / len(series)
    for i, (color, (label, figures)) in enumerate(_coloured(series, theme)):
        at = [j - 0.4 + width * (i + 0.5) for j in range(len(names))]
        values = [figures.get(key.format(name)) or 0 for name in names]
        axes.bar(at, values, 0.9 * width, color=color, label=label, alpha=0.85)
        for form, marker, words in marks:
            points = [(x, figures.get(form.format(name))) for x, name in zip(at, names, strict=True)]
            known = [point for point in points if point[1] is not None]
            if known:
                look = {"color": theme.ink, "linestyle": "none", "markersize": 14 if marker == "_" else 6}
                axes.plot(*zip(*known, strict=True), marker=marker, markeredgewidth=2, label=words, **look)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    _legend(axes)


def _curve(axes, at: Sequence[int], figures: Mapping, key: str, color: str, label: str, **style) -> None:
    """A line through the figures that are known, and a band where they have intervals."""
    known = [h for h in at if figures.get(key.format(h)) is not None]
    if not known:
        return
    axes.plot(known, [figures[key.format(h)] for h in known], color=color, label=label, **style)
    banded = [h for h in known if figures.get(f"{key.format(h)}_low") is not None] if "marker" in style else []
    ends = [[figures[f"{key.format(h)}_{end}"] for h in banded] for end in ("low", "high")]
    if banded:
        axes.fill_between(banded, *ends, color=color, alpha=0.18, linewidth=0)


def _floor(axes, value: float, theme: Theme, label: str) -> None:
    axes.axhline(value, color=theme.faint, linestyle="-.", label=label)


def _finish(axes, x: str, y: str, *, log: bool = False) -> None:
    if log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _legend(axes)


def _legend(axes) -> None:
    """Every label once, below the plot."""
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.figure.legend(handles.values(), handles, loc="outside lower left", ncols=2, fontsize=9.5, columnspacing=1.2)


def _coloured(series: Series, theme: Theme) -> list[tuple[str, tuple[str, Mapping]]]:
    return [(theme.lines[i % len(theme.lines)], each) for i, each in enumerate(series)]


def _of(label: str, name: str, series: Series) -> str:
    return name if len(series) == 1 else f"{label}: {name}"


_PLOTS = (
    (
        r"gain_\d+_db",
        "Gain over copying the last frame",
        "One step ahead after real frames, further ahead on its own frames. Bands: 95 % over episodes.",
        _draw_gains,
    ),
    (r"psnr_\d+_db", "PSNR", "The same windows, before the floor is taken off.", _draw_psnr),
    (
        r"onset_\d+",
        "How soon the opponent answers the player",
        "Share of states in which two choices of the player have led to two places of the opponent.",
        _draw_onset,
    ),
    (
        r"steps_\d+_control_c",
        "One, two and four denoising steps",
        "On the same smaller trials, so not to be compared with the figures above.",
        _draw_steps,
    ),
    (
        r"probe_mae_\d+_\w+",
        "State read from frames",
        "Mean error of positions under the recorded actions, free-running; less is better.",
        _draw_probes,
    ),
    (r"action_f1_\w+", "Actions recovered from frames", "By part of the action; random actions.", _draw_actions),
    (
        r"end_motion_ratio",
        "Long rollouts",
        "The last 64 frames of rollouts under random held actions, against real ones.",
        _draw_drift,
    ),
)
"""Of each plot: the pattern of a key that it needs, its title, a note and how it is drawn."""
