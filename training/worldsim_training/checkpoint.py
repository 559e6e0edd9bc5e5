"""Training checkpoints: one safetensors file with tensors and JSON, replaced whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from worldsim_training import parallel

NOTES = "notes"


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able notes beside `path`, sync, rename: a kill leaves the old file or the new one.

    OSError where the disk is full or the folder is not to be written; an older file is then still whole.
    """
    beside = path.with_name(path.name + ".part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, beside, metadata={NOTES: json.dumps(notes)})
        _sync(beside)
        os.replace(beside, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            beside.unlink()
        before = "the one before is whole" if path.is_file() else "there was none before"
        raise OSError(f"checkpoint {path} could not be written ({error}); {before}") from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU and the notes of a checkpoint; FileNotFoundError or ValueError say what is wrong with it."""
    notes = load_notes(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118


def load_notes(path: Path) -> dict[str, Any]:
    """The notes alone, without reading the tensors; the same errors as `load`."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}; run the stage that writes it first")
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})[NOTES])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"checkpoint {path} is damaged ({error}); delete it to start the stage again") from None


def pack(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under `prefix/name`."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `pack` put under that prefix; KeyError where there are none."""
    found = {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
    if not found:
        raise KeyError(f"checkpoint holds no {prefix!r}")
    return found


def pack_adam(network: nn.Module, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts by parameter name, whole even where the parameters are in shards."""
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        f"{named[id(parameter)]}/{key}": parallel.whole(value)
        for parameter, moments in optimizer.state.items()
        for key, value in moments.items()
    }


def unpack_adam(network: nn.Module, optimizer: optim.Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Change the optimizer: put back what `pack_adam` took."""
    for name, parameter in network.named_parameters():
        moments = {key.rsplit("/", 1)[1]: value for key, value in packed.items() if key.rsplit("/", 1)[0] == name}
        if moments:
            optimizer.state[parameter] = {
                key: _step(value, parameter, optimizer) if key == "step" else parallel.like(value, parameter)
                for key, value in moments.items()
            }


def _step(value: Tensor, parameter: Tensor, optimizer: optim.Optimizer) -> Tensor:
    """Adam's count of steps, which the fused kernels want on the parameters' device."""
    return value.to(parameter.device) if optimizer.defaults["fused"] else value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
