"""Model FLOPs of training: the multiplications and additions of a network's passes, counted on its plain code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim.cache import KVCache
from worldsim.engine import GraphedDiT
from worldsim.models.dit import CausalDiT


class Meter:
    """Adds up what networks of one shape are asked, in FLOPs; a pass with gradient counts with its way back.

    Counted are products of matrices, attention included, and convolutions, each once: not what is worked out again for
    the gradient, and no elementwise work. Attention counts all pairs, those that a mask hides too.
    """

    def __init__(self, network: CausalDiT) -> None:
        settings = {key: value for key, value in network.config.items() if not key.startswith("_")}
        with torch.device("meta"):
            self.shape = CausalDiT(**settings)
        self.flops = 0
        self.costs: dict[tuple[str, int, bool], int] = {}

    def watch(self, network: CausalDiT) -> None:
        """Change the network: its passes over whole clips are counted, compiled or not."""
        for name in ("packed", "bidirectional"):
            setattr(network, name, self._counted(name, getattr(network, name)))

    def player(self, player: CausalDiT | GraphedDiT) -> CountedPlayer:
        """The same player, whose passes over single frames are counted."""
        return CountedPlayer(player, self)

    def add(self, name: str, worlds: int, frames: int = 1) -> None:
        """Count a pass of that name over so many worlds or clips, with gradient where it is enabled."""
        kind = (name, frames, torch.is_grad_enabled())
        if kind not in self.costs:
            self.costs[kind] = _flops(self.shape, name, frames)
        self.flops += worlds * self.costs[kind]

    def _counted(self, name: str, work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counted(noisy: Tensor, *rest, **named) -> Tensor:
            self.add(name, *noisy.shape[:2])
            return work(noisy, *rest, **named)

        return counted


class CountedPlayer:
    """A player of rollouts that tells a meter what it is asked."""

    def __init__(self, player: CausalDiT | GraphedDiT, meter: Meter) -> None:
        self.counted, self.meter = player, meter

    def new_cache(self, worlds: int) -> KVCache:
        """As `CausalDiT.new_cache`."""
        return self.counted.new_cache(worlds)

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor:
        """As `CausalDiT.forward`."""
        self.meter.add("forward", len(x_t))
        return self.counted(x_t, sigma, action, cache)

    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`."""
        self.meter.add("commit", len(x_0))
        self.counted.commit(x_0, action, cache)


def _flops(shape: CausalDiT, name: str, frames: int) -> int:
    """FLOPs of one clip's pass, with its gradient where that is enabled. shape: a network on the meta device, where
    nothing is worked out."""
    config = shape.config
    with torch.device("meta"):
        x = torch.zeros(1, frames, config.channels, config.height, config.width)
        sigma, actions = torch.zeros(1, frames), torch.zeros(1, frames, config.action_size)
        known = torch.ones(1, frames, dtype=torch.bool)
    cache = shape.new_cache(1)
    words = {
        "packed": (x, sigma, x, sigma, actions, known),
        "bidirectional": (x, sigma, actions, known),
        "forward": (x[:, 0], sigma[:, 0], actions[:, 0], cache),
        "commit": (x[:, 0], actions[:, 0], cache),
    }
    # Fused attention is counted by some devices only, and with the scores that it works out twice.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        answer = getattr(shape, name)(*words[name])
        if torch.is_grad_enabled():
            answer.sum().backward()
    return counter.get_total_flops()
