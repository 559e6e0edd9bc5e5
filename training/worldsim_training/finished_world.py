"""The world that a run comes to: its networks, how it is to be played and where it begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.world_info import WorldInfo
from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import processes
from worldsim_training.config import WorldConfig
from worldsim_training.dataset import Recording
from worldsim_training.recorded_starts import recorded_starts


def assemble(
    config: WorldConfig, game: type[Game], denoiser: CausalDiT, heads: OutcomeHead, held_out: Recording
) -> WorldModel:
    """The world of these networks, which begins at moments of the held-out episodes.

    Settings that change nothing, and policies that nobody held out plays, are told in a line each.
    """
    processes.ask_first(lambda: _tell_idle(config, heads.config.rewards))
    policies = _start_policies(config, held_out)
    starts = recorded_starts(held_out, config.starts, config.model.window, config.data.seed, policies)
    return WorldModel(_info(config, game), game.actions, denoiser, heads, starts)


def _info(config: WorldConfig, game: type[Game]) -> WorldInfo:
    return WorldInfo(
        name=config.name,
        env_id=game.env_id,
        height=game.height,
        width=game.width,
        fps=game.fps,
        window_frames=config.model.window,
        max_episode_steps=game.max_episode_steps,
        shift=config.shift,
        single_sigma=config.single_sigma,
        default_steps=config.default_steps,
        draws_ends=config.draws_ends,
        drawn_end_reward=config.drawn_end_reward,
        final_rewards=tuple(config.final_rewards),
        kept_sigma=config.kept_sigma,
        still_levels=config.still_levels,
    )


def _tell_idle(config: WorldConfig, rewards: Sequence[float]) -> None:
    """Print a line for each setting of ends that changes nothing in a world whose head tells these rewards."""
    known = np.float32(rewards)
    if never := [f"{each:g}" for each in config.final_rewards if np.float32(each) not in known]:
        told = ", ".join(f"{each:g}" for each in known)
        seen = f"warning: world.final_rewards has {', '.join(never)}, which the head never says"
        tqdm.write(f"{seen}; it says {told}", file=sys.stderr)
    if config.drawn_end_reward is not None and not config.draws_ends:
        tqdm.write("warning: world.drawn_end_reward changes nothing without world.draws_ends=true", file=sys.stderr)


def _start_policies(config: WorldConfig, held_out: Recording) -> tuple[str, ...]:
    """Those asked for; none, which is everybody, and a line that says so, where no held-out episode is theirs."""
    asked = tuple(config.start_policies)
    if not asked or {*asked} & {*held_out.policies}:
        return asked
    seen = f"warning: no validation episode is of {', '.join(asked)}, which world.start_policies asks for"
    processes.ask_first(lambda: tqdm.write(f"{seen}: starts are everybody's", file=sys.stderr))
    return ()
