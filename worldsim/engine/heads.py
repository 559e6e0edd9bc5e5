"""`worldsim.heads.OutcomeHead` for play: frames channels-last, each layer and its activation in one kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldsim import heads
from worldsim.engine.kernels import Convolution, Linear
from worldsim.engine.stems import halving


class PackedOutcomeHead:
    """The same answers as the plain head up to rounding; it has no parameters of its own."""

    def __init__(self, plain: heads.OutcomeHead) -> None:
        convolutions = [layer for layer in plain.net if isinstance(layer, nn.Conv2d)]
        hidden, answer = (layer for layer in plain.net if isinstance(layer, nn.Linear))
        self.rewards = plain.config.rewards
        self.enter = halving(convolutions[0], "silu")
        self.down = [Convolution.of(layer, "silu") for layer in convolutions[1:]]
        # The plain head flattens (channel, row, column), channels-last frames flatten with the channel last.
        weight = hidden.weight.unflatten(1, (convolutions[-1].out_channels, -1)).transpose(1, 2).flatten(1)
        self.hidden, self.answer = Linear(weight, hidden.bias, "silu"), Linear.of(answer)

    @torch.inference_mode()
    def __call__(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """As `OutcomeHead.forward`."""
        x = torch.cat((before, after), dim=1).to(torch.bfloat16, memory_format=torch.channels_last)
        x = self.enter(x)
        for layer in self.down:
            x = layer(x)
        out = self.answer(self.hidden(x.permute(0, 2, 3, 1).flatten(1))).float()
        return out[:, :-1], out[:, -1]

    @torch.no_grad()
    def read(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """As `OutcomeHead.read`."""
        return heads.likeliest(*self(before, after), self.rewards)
