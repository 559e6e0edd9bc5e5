"""Linear layers and convolutions as a device takes them best, arranged once instead of at every call.

On a CPU they go through oneDNN. On a GPU, and while a pass is traced for a compiler, they are torch's own layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 64
"""Rows of a typical product, the tokens of a frame; a hint, any other number works."""

ACTIVATIONS = {"none": ("none", [], ""), "gelu": ("gelu", [], "tanh"), "silu": ("swish", [], "")}
"""Our names of what follows a product -> oneDNN's."""

TRACED = {"none": lambda x: x, "gelu": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu}
"""The same as torch writes them."""


def compiles_for_cpu(x: Tensor) -> bool:
    """Whether what is done with this tensor is being traced for compiled code on a CPU."""
    return x.device.type == "cpu" and torch.compiler.is_compiling()


class Linear:
    """`nn.Linear` and the activation after it, in one kernel. weight: (out, in) bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        self.plain = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach()
        self.activation, self.traced = ACTIVATIONS[activation], TRACED[activation]
        self.reorders = self.plain.device.type == "cpu"
        if self.reorders:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.plain, ROWS)
            self.kernel = torch.ops.mkldnn._linear_pointwise.default

    @classmethod
    def of(cls, plain: nn.Linear, activation: str = "none") -> Linear:
        """The same layer as `plain`."""
        return cls(plain.weight, plain.bias, activation)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.reorders or torch.compiler.is_compiling():
            return self.traced(F.linear(x, self.plain, self.bias))
        return self.kernel(x, self.weight, self.bias, *self.activation)


class Convolution:
    """`nn.Conv2d` and the activation after it, in one kernel; channels-last frames stay channels-last.

    weight: (out, in, rows, columns) bfloat16.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, activation: str = "none"
    ) -> None:
        self.shape = ([padding] * 2, [stride] * 2, [1, 1], 1)
        self.reorders = weight.device.type == "cpu"
        order = torch.contiguous_format if self.reorders else torch.channels_last
        self.plain, self.bias = weight.detach().contiguous(memory_format=order), bias.detach()
        self.activation, self.traced = ACTIVATIONS[activation], TRACED[activation]
        if self.reorders:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.plain, *self.shape)
            self.kernel = torch.ops.mkldnn._convolution_pointwise.default

    @classmethod
    def of(cls, plain: nn.Conv2d, activation: str = "none") -> Convolution:
        """The same layer as `plain`, whose kernel is square."""
        stride, padding = plain.stride[0], plain.padding[0]
        return cls(plain.weight, plain.bias, stride=stride, padding=padding, activation=activation)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.reorders or torch.compiler.is_compiling():
            padding, stride, *_ = self.shape
            return self.traced(F.conv2d(x, self.plain, self.bias, stride=stride, padding=padding))
        return self.kernel(x, self.weight, self.bias, *self.shape, *self.activation)
