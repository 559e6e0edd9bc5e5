"""A tiny random world with real parts, for tests; its frames are never square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worldsim.action import ActionSpec, Channel
from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.world_info import Starts, WorldInfo
from worldsim.world_model import WorldModel
from worldsim_envs.games.encounter import Encounter

HEIGHT, WIDTH = 48, 64
NAMES = (
    "NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE "
    "UPRIGHTFIRE UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE"
).split()
CHANNELS = ("up", "down", "left", "right", "fire")


def tiny_actions() -> ActionSpec:
    """Discrete(18) over five buttons, as in the Atari games."""
    table = [[float(channel.upper() in name) for channel in CHANNELS] for name in NAMES]
    keys = {"up": ("up",), "down": ("down",), "left": ("left",), "right": ("right",), "fire": ("space",)}
    return ActionSpec([Channel(name) for name in CHANNELS], table, names=NAMES, keys=keys)


def tiny_denoiser(seed: int = 0, **config) -> CausalDiT:
    """A small `CausalDiT` whose every weight is random, so that no path is silent (adaLN gates start at zero)."""
    torch.manual_seed(seed)
    settings = {"height": HEIGHT, "width": WIDTH, "action_size": 5, "dim": 32, "depth": 3, "heads": 2, "window": 4}
    denoiser = CausalDiT(**{**settings, "conv_widths": (8, 16), **config})
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return denoiser.eval()


def tiny_world(name: str = "tiny", seed: int = 0, **config) -> WorldModel:
    """A random world of 48x64 frames, window 4, 15 frames a second."""
    denoiser = tiny_denoiser(seed, **config)
    heads = OutcomeHead(HEIGHT, WIDTH, width_conv=8)
    rng = np.random.default_rng(seed)
    window = denoiser.config.window
    starts = Starts(
        frames=rng.integers(0, 256, (3, window, HEIGHT, WIDTH, 3), dtype=np.uint8),
        actions=rng.integers(0, 18, (3, window - 1)),
    )
    info = WorldInfo(name, "ALE/Boxing-v5", HEIGHT, WIDTH, 15, window, max_episode_steps=500, shift=2.0)
    return WorldModel(info, tiny_actions(), denoiser, heads, starts)


def tiny_encounter(seed: int = 0, **config) -> WorldModel:
    """A random world under Encounter's actions, 64x64, window 4, beginning at moments of the real game."""
    from worldsim_training.collect import record_episode  # with hydra, which few tests need

    game = Encounter()
    settings = {"height": game.height, "width": game.width, "action_size": game.actions.size}
    denoiser = tiny_denoiser(seed, **settings, **config)
    window = denoiser.config.window
    episodes = [record_episode(game, "visitor", (seed, start), window - 1) for start in range(2)]
    starts = Starts(*(np.stack([getattr(each, name) for each in episodes]) for name in ("frames", "actions")))
    info = WorldInfo("encounter", game.env_id, game.height, game.width, game.fps, window, 300, shift=2.0)
    return WorldModel(info, game.actions, denoiser, OutcomeHead(game.height, game.width, width_conv=8), starts)


class Mortal:
    """Heads whose reward is a frame's brightness and which end an episode by one of its pixels, in one of `every`
    values of it."""

    def __init__(self, every: int) -> None:
        self.every = every

    def read(self, before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ends = (after[:, 0, 0, 0] * 255).int() % self.every == 0
        return after.mean(dim=(1, 2, 3)), torch.where(ends, 1.0, -1.0)


def mortal_world(model: WorldModel, every: int) -> WorldModel:
    """The same world under `Mortal` heads: its episodes end by themselves, in each world of a batch at another time."""
    mortal = WorldModel(model.info, model.actions, model.denoiser, model.heads, model.starts)
    mortal.reader = Mortal(every)
    return mortal


def save_tiny_world(folder: Path, **config) -> Path:
    """`tiny_world` on disk, as a user's own world would be."""
    tiny_world(**config).save_pretrained(folder)
    return folder
