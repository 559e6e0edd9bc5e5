"""Linear layers and convolutions through oneDNN, with the weight reordered once instead of at every call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 64
"""Rows of a typical product, the tokens of a frame; a hint, any other number works."""

ACTIVATIONS = {"none": ("none", [], ""), "gelu": ("gelu", [], "tanh"), "silu": ("swish", [], "")}
"""Our names of what follows a product -> oneDNN's."""


class Linear:
    """`nn.Linear` and the activation after it, in one kernel. weight: (out, in) bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else bias.detach()
        self.activation = ACTIVATIONS[activation]
        self.kernel = torch.ops.mkldnn._linear_pointwise.default

    @classmethod
    def of(cls, plain: nn.Linear, activation: str = "none") -> Linear:
        """The same layer as `plain`."""
        return cls(plain.weight, plain.bias, activation)

    def __call__(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.weight, self.bias, *self.activation)


class Convolution:
    """`nn.Conv2d` and the activation after it, in one kernel; channels-last frames stay channels-last.

    weight: (out, in, rows, columns) bfloat16.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, activation: str = "none"
    ) -> None:
        self.shape = ([padding] * 2, [stride] * 2, [1, 1], 1)
        weight = weight.detach().contiguous()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.shape)
        self.bias = bias.detach()
        self.activation = ACTIVATIONS[activation]
        self.kernel = torch.ops.mkldnn._convolution_pointwise.default

    @classmethod
    def of(cls, plain: nn.Conv2d, activation: str = "none") -> Convolution:
        """The same layer as `plain`, whose kernel is square."""
        stride, padding = plain.stride[0], plain.padding[0]
        return cls(plain.weight, plain.bias, stride=stride, padding=padding, activation=activation)

    def __call__(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.weight, self.bias, *self.shape, *self.activation)
