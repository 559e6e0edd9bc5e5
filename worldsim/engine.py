"""Optional speed: a copy of a network for play, whose weights lie in the order that the CPU's kernels read them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

ROWS = 64
"""Rows of a typical product, the tokens of a frame; a hint, any other number works."""


def packed(network: nn.Module) -> nn.Module:
    """The network for play: the same answers up to rounding, faster on a CPU in bfloat16; elsewhere the network itself.

    The copy shares its parameters with the network, has the packed weights beside them and cannot be trained or moved.
    """
    weight = next(network.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not _has_kernels():
        return network
    twin = copy.deepcopy(network, memo={id(parameter): parameter for parameter in network.parameters()})
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if kind := PACKED.get(type(child)):
                setattr(module, name, kind(child))
    return twin


class PackedLinear(nn.Module):
    """`nn.Linear` through oneDNN, with the weight reordered once instead of at every call."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class PackedConv2d(nn.Module):
    """`nn.Conv2d` through oneDNN, with the weight reordered once instead of at every call."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.shape = (plain.padding, plain.stride, plain.dilation, plain.groups)
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(plain.weight.detach(), *self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self.packed, self.bias, *self.shape, "none", [], "")


PACKED = {nn.Linear: PackedLinear, nn.Conv2d: PackedConv2d}


def _has_kernels() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
