"""The device that a run uses, with its networks laid out and compiled for it."""

from __future__ import annotations

import os
import shutil

import torch
from diffusers.models.modeling_utils import ModelMixin

from worldsim.models.dit import CausalDiT


def device_named(name: str) -> torch.device:
    """The device of that name, `auto` for a GPU where there is one; ValueError where it is unknown or not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}, but torch sees no CUDA device; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device={name}, but torch sees {count} CUDA devices, from cuda:0 on")
    return device


def placed(network: CausalDiT, device: torch.device) -> CausalDiT:
    """The network on the device; a GPU's convolutions run in half the time with their channels last."""
    layout = torch.channels_last if device.type == "cuda" else torch.preserve_format
    return network.to(device, memory_format=layout)


def compile_passes(network: ModelMixin) -> None:
    """Change the network: its passes over whole clips run compiled, where a compiler is present."""
    if has_compiler():
        network.packed = torch.compile(network.packed, dynamic=False)
        network.bidirectional = torch.compile(network.bidirectional, dynamic=False)


def has_compiler() -> bool:
    """Whether the C++ compiler is here that torch.compile needs, on a GPU too."""
    return any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
