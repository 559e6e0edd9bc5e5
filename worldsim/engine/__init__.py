"""Optional speed: a network rewritten for play on a CPU, with the plain network as its reference."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from worldsim.engine.network import PackedDiT
from worldsim.models.dit import CausalDiT


def packed(network: CausalDiT, sigmas: Iterable[float] = ()) -> CausalDiT | PackedDiT:
    """The network for play: the same answers up to rounding, faster on a CPU in bfloat16; elsewhere the network itself.

    sigmas: the noise levels that will be asked for, whose constants are worked out now; others are worked out at each
    call. The weights must not change any more.
    """
    weight = next(network.parameters())
    suits = type(network) is CausalDiT and weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    if not suits or not has_kernels():
        return network
    return PackedDiT(network, sigmas)


def has_kernels() -> bool:
    """Whether this build of torch has oneDNN's bfloat16 kernels for this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
