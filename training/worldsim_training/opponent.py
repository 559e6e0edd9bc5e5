"""The opponent of a real game beside that of its world: how often, how soon and where it answers the player.

From one held-out state two streams of actions are played, in the real game and in the world, in the latter under one
noise. All else is alike, so where the opponent's places part, it has answered the player.

    python -m worldsim_training.npc_score boxing --json boxing_npc.json
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.control_tests import ONSET_STEPS, check_readers, parting_steps, score_onset, tracks
from worldsim_training.battery.futures import SAMPLES, Futures, pair_futures
from worldsim_training.battery.simulator import Played, RealSimulator, WorldSimulator
from worldsim_training.evaluation import FULL, check_fit, settings_for
from worldsim_training.heldout import HeldOut, record_heldout

ONSET_BAR = 0.1
"""Most that the world's onset curve may be off the real one's at any step."""
NEAR_STEP = 4
"""Step by which answers are told apart by how near the player stood."""
STEPS = max(ONSET_STEPS)

Figures = dict[str, float]


@dataclass(frozen=True)
class Answers:
    """What two branches of each of n states show of the opponent."""

    onset: np.ndarray
    """(n,) first step at which its places are apart; `STEPS` + 1 where they never are."""
    parted: np.ndarray
    """(n, 2) pixels in x and y between its places at the last step; NaN where one is unseen."""

    @classmethod
    def of(cls, game: Game, played: Played) -> Answers:
        """Read from the frames that a simulator showed."""
        places = tracks(game.opponent_xy, played.frames)
        return cls(parting_steps(places), places[:, 0, -1] - places[:, 1, -1])


def measure(model: WorldModel, game: Game, *, states: int, split: str, seed: int, steps: int) -> Figures:
    """All figures of a world, as `compare` names them, on held-out episodes that are recorded on the spot.

    `luck_...` are the same of the real game with other luck, which no world surely exceeds, where the game's luck can
    be changed. ValueError where world and game do not fit, the opponent is not to be seen, or the states are too few.
    """
    check_fit(model, type(game), steps)
    heldout = _record(game, split, seed)
    past, rng = model.info.window_frames, np.random.default_rng([seed, 0])
    futures = pair_futures(game, heldout, states, STEPS, past=past, rng=rng)
    check_readers(game, futures, "opponent")
    with tqdm(total=2 * states * STEPS, unit="frame", desc="imagine") as bar:
        world = WorldSimulator(model, settings_for(model, FULL, steps, bar.update))
        figures = compare(game, futures, futures.play(world), np.random.default_rng([seed, 1]))
    if game.luck() is None:
        return figures
    lucky = futures.play(RealSimulator(game, heldout, other_luck=True))
    other = compare(game, futures, lucky, np.random.default_rng([seed, 1]))
    return figures | {f"luck_{name}": value for name, value in other.items() if "real_" not in name}


def compare(game: Game, futures: Futures, played: Played, rng: np.random.Generator) -> Figures:
    """What a simulator showed, beside the real game's figures under `real`.

    onset_{h}, onset_real_{h}: share of states in which the opponent has answered by step h. onset_gap_{h} is the first
    less the second, state by state. Intervals of 95 % over episodes under `_low` and `_high`.
    answer_step: how soon, the mean step of the answer over the states in which both answer; answer_step_error: how far
    apart the two are there on average.
    near, far: share of states answered by step 4 where the player stood nearer to the opponent than in half of the
    states, or farther off.
    where: correlation of the way by which the branches' places part at the last step with the real one, x and y
    together; 1 for a simulator whose opponent answers by walking to the same side and as far.
    """
    ours, real = (Answers.of(game, each) for each in (played, futures.real))
    out = score_onset(game, futures, played, rng)
    for h in ONSET_STEPS:
        by_then = [(each.onset <= h).astype(float) for each in (ours, real)]
        out[f"onset_gap_{h}"] = float((by_then[0] - by_then[1]).mean())
        for name, values in ((f"onset_real_{h}", by_then[1]), (f"onset_gap_{h}", by_then[0] - by_then[1])):
            interval = metrics.bootstrap_interval(np.mean, futures.episodes, values, rng=rng, samples=SAMPLES)
            out[f"{name}_low"], out[f"{name}_high"] = interval
    both = (ours.onset <= STEPS) & (real.onset <= STEPS)
    near = _near(game, futures)
    for suffix, each in (("", ours), ("_real", real)):
        out[f"answer_step{suffix}"] = _mean(each.onset[both])
        out[f"near{suffix}"], out[f"far{suffix}"] = (_mean(each.onset[rows] <= NEAR_STEP) for rows in (near, ~near))
    out["answer_step_error"] = _mean(np.abs(ours.onset - real.onset)[both])
    out["where"] = metrics.agreement(ours.parted.ravel(), real.parted.ravel())
    return out | {"states": float(len(near)), "episodes": float(len(np.unique(futures.episodes)))}


def table(figures: Figures) -> str:
    """The figures as lines to read."""
    lines = [
        f"{figures['states']:.0f} states of {figures['episodes']:.0f} episodes, 95 % intervals over episodes",
        f"{'answered by step':<17}" + "".join(f"{name:>20}" for name in ("real game", "world", "world less real")),
    ]
    for h in ONSET_STEPS:
        cells = (_interval(figures, f"{name}_{h}") for name in ("onset_real", "onset", "onset_gap"))
        lines.append(f"{h:<17}" + "".join(f"{cell:>20}" for cell in cells))
    passed = "met" if figures["onset_error"] <= ONSET_BAR else "missed"
    lines.append(f"greatest difference {figures['onset_error']:.3f}, at most {ONSET_BAR}: {passed}")
    if "luck_onset_error" in figures:
        lines[-1] += f"; the real game with other luck {figures['luck_onset_error']:.3f}"
    seen = {name: (figures[name], figures[f"{name}_real"]) for name in ("answer_step", "near", "far")}
    soon, near, far = (f"{world:.2f}, really {real:.2f}" for world, real in seen.values())
    error = f"{figures['answer_step_error']:.2f} steps apart state by state{_lucky(figures, 'answer_step_error')}"
    lines += [
        f"how soon, mean step where both answer: {soon}; {error}",
        f"how often by step {NEAR_STEP}, the player near: {near}; far: {far}",
        f"where to, correlation with the real answer: {figures['where']:.2f}{_lucky(figures, 'where')}",
    ]
    return "\n".join(lines)


def _record(game: Game, split: str, seed: int) -> HeldOut:
    with tqdm(total=FULL.episodes * game.max_episode_steps, unit="step", desc="record") as bar:
        numbers = {"episodes": FULL.episodes, "max_steps": game.max_episode_steps, "save_every": FULL.save_every}
        return record_heldout(game, split=split, seed=seed, **numbers, progress=bar.update)


def _near(game: Game, futures: Futures) -> np.ndarray:
    """(n,) bool, where the last real frame shows the player nearer to the opponent than in half of the states."""
    player, opponent = (tracks(role, futures.past.frames[:, -1]) for role in (game.player_xy, game.opponent_xy))
    distance = metrics.apart_by(player, opponent)
    return distance < np.nanmedian(distance)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _interval(figures: Figures, name: str) -> str:
    return f"{figures[name]:.2f} [{figures[f'{name}_low']:.2f}, {figures[f'{name}_high']:.2f}]"


def _lucky(figures: Figures, name: str) -> str:
    return f" (with other luck {figures[f'luck_{name}']:.2f})" if f"luck_{name}" in figures else ""
