"""Optional speed: the networks rewritten for play on a CPU or replayed on a GPU, with the plain ones as reference."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from worldsim.engine.frames import Commit, FrameGraphs, Paint
from worldsim.engine.gpu import GpuDiT
from worldsim.engine.graphs import GraphedDiT
from worldsim.engine.heads import PackedOutcomeHead
from worldsim.engine.memory import keep_memory
from worldsim.engine.network import PackedDiT
from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT

if TYPE_CHECKING:
    from worldsim.engine.native import CompiledDiT


def packed(network: CausalDiT, sigmas: Iterable[float] = ()) -> CausalDiT | PackedDiT:
    """The network for play: the same answers up to rounding, faster, in bfloat16; elsewhere the network itself.

    sigmas: the noise levels that will be asked for, whose constants are worked out now; others are worked out at each
    call. The weights must not change any more. Changes how the process keeps its memory, see `keep_memory`.
    """
    if type(network) is not CausalDiT or not _suits(network):
        return network
    if network.device.type == "cpu":
        keep_memory()
    return PackedDiT(network, sigmas)


def compiled(
    network: CausalDiT | PackedDiT, folder: Path | None = None
) -> CausalDiT | PackedDiT | CompiledDiT | GpuDiT:
    """`worldsim.engine.native.compiled` on a CPU, whose compiler is loaded here only; `GpuDiT` on a GPU."""
    if isinstance(network, PackedDiT) and network.plain.device.type == "cuda":
        return GpuDiT(network)
    from worldsim.engine.native import compiled

    return compiled(network, folder)


def packed_head(head: OutcomeHead) -> OutcomeHead | PackedOutcomeHead:
    """The outcome head for play, likewise."""
    return PackedOutcomeHead(head) if type(head) is OutcomeHead and _suits(head) else head


def frame_graphs(painter: object, paint: Paint, commit: Commit) -> FrameGraphs | None:
    """Paint and commit, which play that network, as CUDA graphs; None where it is not one rewritten for a GPU."""
    packed = painter.packed if isinstance(painter, GpuDiT) else painter
    on_gpu = isinstance(packed, PackedDiT) and packed.plain.device.type == "cuda"
    return FrameGraphs(paint, commit) if on_gpu else None


def graphed(network: CausalDiT, *, compiled: bool = False) -> CausalDiT | GraphedDiT:
    """The network for rollouts without gradient: the same answers, on a GPU through CUDA graphs; elsewhere the network.

    compiled: the graphs are of compiled passes; worth it where there are many rollouts.

    The weights may go on changing in place. A network whose weights are whole only while it is called (FSDP) has no
    fixed place to read them from, and stays as it is.
    """
    weights = list(network.parameters())
    is_plain = type(network) is CausalDiT and all(type(weight) is nn.Parameter for weight in weights)
    return GraphedDiT(network, compiled=compiled) if is_plain and weights[0].device.type == "cuda" else network


def _suits(network: nn.Module) -> bool:
    weight = next(network.parameters())
    can = {"cpu": has_kernels, "cuda": lambda: True}.get(weight.device.type, lambda: False)
    return weight.dtype == torch.bfloat16 and can()


def has_kernels() -> bool:
    """Whether this build of torch has oneDNN's bfloat16 kernels for this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
