"""How tests play a tiny world as a tensor program."""

import torch
from tiny import HEIGHT, WIDTH

from worldsim.world_model import WorldModel

PAST = 5


def in_bfloat16(world):
    """The world in the precision that a loaded one plays in."""
    parts = world.denoiser.to(torch.bfloat16), world.heads.to(torch.bfloat16)
    return WorldModel(world.info, world.actions, *parts, world.starts)


def past_of(worlds, seed=0):
    """A random past of `worlds` worlds: what `reset` takes besides seeds."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (worlds, PAST, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    return frames, torch.randint(0, 2, (worlds, PAST - 1, 5), generator=generator).float()


def actions_of(worlds, length, seed=1):
    return torch.randint(0, 2, (length, worlds, 5), generator=torch.Generator().manual_seed(seed)).float()


def play(world, state, actions, **settings):
    """Frames (T, B, 3, H, W), rewards (T, B) and ends (T, B) under actions (T, B, A)."""
    steps = [world.step(state, action, **settings) for action in actions]
    return [torch.stack([getattr(step, name) for step in steps]) for name in ("frame", "reward", "ended")]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message
