"""The gates between the stages: what a network's scores must show before the next stage begins."""

from __future__ import annotations

from collections.abc import Mapping

from worldsim_training.config import GatesConfig

Scores = Mapping[str, Mapping[str, float]]
"""Of one network, as in its `validation.json`: by sampler, then by name."""

JUDGED = ("teacher_forcing", "consistency", "ode", "dmd")
TEACHER = "ode"
"""End of the name of the sampler with which a teacher plays; how many steps it takes is the validation's setting."""
STUDENT = "2_step"
"""The sampler with which a distilled network is played where nothing else is asked for."""
RATIOS = ("motion", "sharpness", "saturation")


class GateFailed(RuntimeError):
    """A stage's network does not show what the next stage needs. The network and its scores are kept."""


def judge_teacher(scores: Scores, config: GatesConfig) -> None:
    """GateFailed where stage 1's network predicts no better than copying, or does not hear its actions."""
    seen = _played(scores, "teacher_forcing", TEACHER)
    least = {"teacher_gain_db": "gain_1_db", "teacher_response_levels": "response_levels"}
    faults = [
        f"{name} is {seen[name]:g}, gates.{key} asks for more than {asked:g}"
        for key, name in least.items()
        if (asked := getattr(config, key)) is not None and not seen[name] > asked
    ]
    _raise("teacher_forcing", faults)


def judge_student(stage: str, scores: Scores, teacher: Scores, config: GatesConfig) -> None:
    """GateFailed where a distilled network lost too much of its teacher, or its late frames left the real ones."""
    seen, wanted = _played(scores, stage, STUDENT), _played(teacher, "teacher_forcing", TEACHER)
    _raise(stage, [*_losses(seen, wanted, config), *_departures(seen, config)])


def check(config: GatesConfig) -> None:
    """ValueError where a gate asks for what nothing can pass."""
    for name in RATIOS:
        bounds = getattr(config, name)
        if bounds is not None and not 0 <= bounds[0] < bounds[1]:
            raise ValueError(f"gates.{name} is {bounds[0]:g} to {bounds[1]:g}; give the least ratio, then the most")


def _losses(seen: Mapping[str, float], teacher: Mapping[str, float], config: GatesConfig) -> list[str]:
    faults = []
    if config.gain_loss_db is not None:
        least = teacher["gain_1_db"] - config.gain_loss_db
        if not seen["gain_1_db"] >= least:
            asked = f"gates.gain_loss_db={config.gain_loss_db:g} below its teacher's asks for {least:.3g}"
            faults.append(f"gain_1_db is {seen['gain_1_db']:g}, {asked} or more")
    if config.response_share is not None:
        least = teacher["response_levels"] * config.response_share
        if not seen["response_levels"] >= least:
            asked = f"gates.response_share={config.response_share:g} of its teacher's asks for {least:.3g}"
            faults.append(f"response_levels is {seen['response_levels']:g}, {asked} or more")
    return faults


def _departures(seen: Mapping[str, float], config: GatesConfig) -> list[str]:
    faults = []
    for name in RATIOS:
        bounds, ratio = getattr(config, name), seen[f"{name}_ratio"]
        if bounds is not None and not bounds[0] <= ratio <= bounds[1]:
            faults.append(f"{name}_ratio is {ratio:g}, gates.{name} asks for {bounds[0]:g} to {bounds[1]:g}")
    if config.drift_levels is not None and not seen["drift_levels"] <= config.drift_levels:
        asked = f"gates.drift_levels asks for {config.drift_levels:g} or less"
        faults.append(f"drift_levels is {seen['drift_levels']:g}, {asked}")
    return faults


def _played(scores: Scores, stage: str, sampler: str) -> Mapping[str, float]:
    """The scores of a network as the sampler of that name, or with that ending, plays it; ValueError for old files."""
    found = [each for name, each in scores.items() if name.endswith(sampler)]
    needed = {"gain_1_db", "response_levels", "drift_levels", *(f"{name}_ratio" for name in RATIOS)}
    if not found or (missing := needed - found[0].keys()):
        lacks = ", ".join(sorted(missing)) if found else f"scores of {sampler}"
        again = f"delete {stage}/validation.json and run stage={stage}, which scores it again without training"
        raise ValueError(f"{stage}/validation.json lacks {lacks}; {again}")
    return found[0]


def _raise(stage: str, faults: list[str]) -> None:
    if not faults:
        return
    kept = "its network and scores are kept"
    if stage == "dmd":
        kept += ", stage 2's may be released instead: world.dmd.loop.steps=0 world.release=distillation"
    on = "give a gate another figure or null, or gates.enabled=false, to go on regardless"
    raise GateFailed(f"stage {stage} failed its gate: {'; '.join(faults)}. {kept.capitalize()}; {on}")
