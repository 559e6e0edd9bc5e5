"""The verdict on every gate of a world's figures: pass, fail, refused or not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worldsim_training.battery.bars import ANY, BY_LUCK, Bar, bars_of, measured_by, passes

PASS, FAIL, REFUSED, UNMEASURED = "pass", "fail", "refused", "not measured"
VERDICTS = (PASS, FAIL, REFUSED, UNMEASURED)


@dataclass(frozen=True)
class Gate:
    """One figure held against its bar."""

    key: str
    verdict: str
    value: float | int | None
    interval: tuple[float, float] | None
    """95 % over episodes; None where there is none."""
    bar: Bar
    luck: float | None
    """What the real game scores with other luck."""
    why: str
    """The reason of a refusal, or what to keep in mind; may be empty."""

    @property
    def wanted(self) -> str:
        """The bar in words."""
        low, high = self.bar
        if low == high:
            return f"{low:g}"
        if low == -ANY:
            return f"{high:.3g} or less"
        return f"{low:.3g} or more" if high == ANY else f"{low:.3g} to {high:.3g}"


def judge(figures: Mapping[str, object]) -> list[Gate]:
    """Every gate, in the order of the bars. A figure that has no meaning on what the world showed does not pass."""
    return [_gate(key, limits, figures) for key, limits in bars_of(figures).items()]


def count(gates: Sequence[Gate]) -> dict[str, int]:
    """How many gates have each verdict."""
    return {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in VERDICTS}


def _gate(key: str, limits: Bar, figures: Mapping) -> Gate:
    value, ends = figures.get(key), (figures.get(f"{key}_low"), figures.get(f"{key}_high"))
    interval = ends if None not in ends else None
    verdict, why = _verdict(key, limits, interval, figures)
    return Gate(key, verdict, value, interval, limits, figures.get(f"luck_{key}"), why)


def _verdict(key: str, limits: Bar, interval: tuple[float, float] | None, figures: Mapping) -> tuple[str, str]:
    if key not in figures:
        refusal = figures.get(f"refused_{measured_by(key)}")
        return (REFUSED, str(refusal)) if refusal else (UNMEASURED, "")
    if figures[key] is None:
        return FAIL, "it has no meaning on what this world showed"
    notes = ["the interval crosses the bar"] if interval and _crosses(interval, limits) else []
    notes += ["judged by the real game with other luck"] if BY_LUCK.get(key) in figures else []
    unread = figures.get("probe_refused") if key.startswith("probe_") else None
    notes += [f"not read: {unread}"] if unread else []
    return (PASS if passes(key, figures[key], limits) else FAIL), "; ".join(notes)


def _crosses(interval: tuple[float, float], limits: Bar) -> bool:
    inside = [limits[0] <= end <= limits[1] for end in interval]
    return inside[0] != inside[1]
