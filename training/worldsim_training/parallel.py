"""How one network is trained by several processes: whole in each of them (DDP), or in shards (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from worldsim_training import processes
from worldsim_training.dataset import Clip

Loss = Callable[[Clip, torch.Generator], Tensor]


class Objective(nn.Module):
    """A network and its loss as one module: DDP and FSDP2 act around `forward`, and a loss calls the network in ways
    of its own, more than once and by other methods than `forward`."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, clip: Clip, generator: torch.Generator) -> Tensor:
        return self.loss(clip, generator)


def replicate(objective: Objective) -> nn.Module:
    """DDP: every process has the whole network; the gradients are averaged as they come up."""
    # Compiled passes stay whole, as in one process; cut at DDP's buckets they cannot recompute activations.
    torch._dynamo.config.optimize_ddp = False
    return DistributedDataParallel(objective, static_graph=True)


def shard(objective: Objective) -> nn.Module:
    """FSDP2: every process keeps a part of the weights, the gradients and the optimiser's moments.

    One group of parameters, whole from the end of one update to the backward pass of the next: rollouts call the
    network dozens of times an update, and would have to gather it as often. Changes the network: its parameters become
    DTensors with their memory in the default order, the only one that FSDP2 takes.
    """
    objective.network.to(memory_format=torch.contiguous_format)
    device = next(objective.parameters()).device.type
    return fully_shard(objective, mesh=init_device_mesh(device, (processes.count(),)), reshard_after_forward=False)


SCALES = {"ddp": replicate, "fsdp": shard}


def gather(objective: nn.Module) -> None:
    """Change the network under FSDP2: its parameters are whole again, for anyone's use."""
    if isinstance(objective, FSDPModule):
        objective.unshard()


@contextmanager
def in_shards(objective: nn.Module) -> Iterator[None]:
    """Within the block the parameters are those that the optimiser knows: under FSDP2 the shards."""
    if isinstance(objective, FSDPModule):
        objective.reshard()
    try:
        yield
    finally:
        gather(objective)


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process may have a shard. Every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same in every process, on a parameter's device and laid out as that is: in the same order of
    axes, for which Adam's fused kernel asks, or in shards."""
    if isinstance(parameter, DTensor):
        whole = tensor.to(parameter.device)
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
