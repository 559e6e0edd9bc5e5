"""A world written as ONNX graphs, for players without torch.

    worldsim export boxing --out FOLDER --precision int8

`worldsim.exported.world.OnnxWorld(FOLDER)` plays it with numpy and onnxruntime alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldsim.cache import KVCache, rotate
from worldsim.exported.folder import ARRAYS, GRAPHS, INDEX, SCHEMA, WEIGHTS, graph_file
from worldsim.heads import before_of
from worldsim.models.dit import CausalDiT
from worldsim.noise import quantiles
from worldsim.world_files import write_manifest
from worldsim.world_model import WorldModel

try:
    import onnx
    from onnx import external_data_helper, helper, numpy_helper
except ModuleNotFoundError:
    raise ModuleNotFoundError('an export needs onnx: pip install "worldsim[export]"', name="onnx") from None

PRECISIONS = ("fp32", "int8")
OPSET = 18
SMALL_BYTES = 1024
"""Tensors up to this size stay inside their graph, and in float32."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worldsim export`."""
    parser.add_argument("world", help="a shipped world's name or a world folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write, new or empty")
    parser.add_argument("--precision", default="fp32", help=f"of the weights: {' or '.join(PRECISIONS)}")


def run(args: argparse.Namespace) -> int:
    _check_request(args.out, args.precision)
    world = WorldModel.from_pretrained(args.world, dtype=torch.float32)
    export_world(world, args.out, precision=args.precision)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {world.info.name} in {args.precision}, {size / 1e6:.1f} MB")
    return 0


def export_world(world: WorldModel, folder: str | Path, *, precision: str = "fp32") -> None:
    """Write a world with float32 weights on the CPU as a folder for `worldsim.exported.world.OnnxWorld`.

    precision: "fp32", or "int8", which keeps the weights of products and convolutions in a quarter of the bytes.
    ValueError in one line for another precision, for weights of another type and for a folder that is not empty.
    """
    folder = Path(folder)
    _check_request(folder, precision)
    weight = next(world.denoiser.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(f"weights are {weight.dtype} on {weight.device}; load the world with dtype=torch.float32")
    graphs = {name: _traced(*work) for name, work in _passes(world).items()}
    if precision == "int8":
        for graph in graphs.values():
            quantise(graph)
    folder.mkdir(parents=True, exist_ok=True)
    _write_graphs(graphs, folder)
    _write_facts(world, folder, precision)
    write_manifest(folder)


class GrowingCache(KVCache):
    """A cache whose writes make new tensors instead of changing the old ones, as a graph of pure functions must."""

    def push(self, layer: int, key: Tensor, value: Tensor) -> None:
        """As `KVCache.push`."""
        self.keys[layer] = torch.cat((self.keys[layer][..., 1:, :], key), dim=-2)
        self.values[layer] = torch.cat((self.values[layer][..., 1:, :], value), dim=-2)
        self.turned[layer] = rotate(self.keys[layer], self.cos, self.sin)

    def leave(self, layer: int, key: Tensor, value: Tensor) -> None:
        """As `KVCache.leave`."""
        self.pending[layer] = torch.stack((key.squeeze(3), value.squeeze(3)), dim=2)

    def advance(self, frame: Tensor) -> None:
        """As `KVCache.advance`."""
        self.previous, self.frames = frame, self.frames + 1


class DenoisePass(nn.Module):
    """`CausalDiT.forward` with the memory's tensors, in the order of `KVCache.remembered`, as further inputs; answers
    the frame and what the call has left."""

    def __init__(self, network: CausalDiT) -> None:
        super().__init__()
        self.network, self.names = network, list(network.new_cache(1).tensors())

    def forward(self, x_t: Tensor, sigma: Tensor, action: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        cache = self.cache_of(memory)
        return self.network(x_t, sigma, action, cache, leave=True), *cache.pending

    def cache_of(self, memory: Sequence[Tensor]) -> GrowingCache:
        """The cache of a memory, or of a memory and, behind it, of what a call has left."""
        return GrowingCache.of(dict(zip(self.names, memory, strict=False)))


class CommitPass(DenoisePass):
    """`CausalDiT.write`, which answers the new memory."""

    def forward(self, frame: Tensor, action: Tensor, known: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        cache = self.cache_of(memory)
        self.network.write(frame, action, known, cache)
        return tuple(cache.remembered().values())


class KeepPass(DenoisePass):
    """`CausalDiT.keep` of what a call has left, which answers the new memory; the inputs are `KVCache.tensors`."""

    def forward(self, frame: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        cache = self.cache_of(tensors)
        self.network.keep(frame, cache)
        return tuple(cache.remembered().values())


def _passes(world: WorldModel) -> dict[str, tuple[nn.Module, dict[str, Tensor], list[str]]]:
    """Per graph what it computes, inputs for one world by name and the names of its outputs."""
    network = world.denoiser
    cache = network.new_cache(1)
    memory, everything = cache.remembered(), cache.tensors()
    frame, action = memory["previous"].clone(), torch.zeros(1, world.actions.size)
    denoise = {"x_t": frame, "sigma": torch.ones(1), "action": action, **memory}
    commit = {"frame": frame, "action": action, "known": torch.ones(1, dtype=torch.bool), **memory}
    keep = {"frame": frame, **everything}
    heads = {"before": before_of(frame.expand(1, world.heads.config.lag, -1, -1, -1)), "after": frame.clone()}
    works = (
        (DenoisePass(network), denoise, ["x_0", *(name for name in everything if name not in memory)]),
        (CommitPass(network), commit, [f"new.{name}" for name in memory]),
        (KeepPass(network), keep, [f"new.{name}" for name in memory]),
        (world.heads, heads, ["reward_logits", "end_logit"]),
    )
    return dict(zip(GRAPHS, works, strict=True))


def _traced(work: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    names = {"input_names": list(inputs), "output_names": outputs}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of each check of a shape, which is right for these sizes alone, as is the graph.
        warnings.simplefilter("ignore")
        file = str(Path(folder) / "graph.onnx")
        torch.onnx.export(work.eval(), tuple(inputs.values()), file, dynamo=False, opset_version=OPSET, **names)
        return onnx.load(file)


# --- weights ---


def quantise(model: onnx.ModelProto) -> None:
    """Change a graph: the weights of its products and convolutions become int8, one scale for each output.

    Arithmetic stays in float32: activations are not rounded.
    """
    graph = model.graph
    axes = _weight_axes(graph)
    for weight in [each for each in graph.initializer if each.name in axes]:
        array, axis = numpy_helper.to_array(weight), axes[weight.name]
        if array.ndim < 2 or array.nbytes <= SMALL_BYTES:
            continue
        whole, scale = _rounded(array, axis)
        name = weight.name
        graph.initializer.remove(weight)
        parts = {f"{name}.int8": whole, f"{name}.scale": scale}
        graph.initializer.extend(numpy_helper.from_array(part, each) for each, part in parts.items())
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), [name], axis=axis))


def _weight_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The second operand of each product and convolution -> the axis of its outputs."""
    axes = {}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            axes[node.input[1]] = 0 if node.op_type == "Conv" or transposed else 1
    return axes


def _rounded(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(each for each in range(array.ndim) if each != axis)
    scale = np.maximum(np.abs(array).max(axis=others, keepdims=True), np.finfo(np.float32).tiny) / 127
    return np.rint(array / scale).astype(np.int8), scale.flatten().astype(np.float32)


def _write_graphs(graphs: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Graphs without their larger weights, and those in one file, equal ones once."""
    places: dict[str, int] = {}
    with (folder / WEIGHTS).open("wb") as weights:
        for name, model in graphs.items():
            for tensor in model.graph.initializer:
                content = numpy_helper.to_array(tensor).tobytes()
                if len(content) <= SMALL_BYTES:
                    continue
                digest = hashlib.sha256(content).hexdigest()
                if digest not in places:
                    places[digest] = weights.tell()
                    weights.write(content)
                place = {"offset": places[digest], "length": len(content)}
                tensor.raw_data = content
                external_data_helper.set_external_data(tensor, WEIGHTS, **place)
                tensor.ClearField("raw_data")
            (folder / graph_file(name)).write_bytes(model.SerializeToString(deterministic=True))


# --- what is no weight ---


def _write_facts(world: WorldModel, folder: Path, precision: str) -> None:
    info = world.info
    index = {"schema": SCHEMA, "precision": precision, "checkpoint": world.fingerprint, "world": asdict(info)}
    index["sigmas"] = {steps: info.sigmas(steps) for steps in info.step_choices}
    index |= {"rewards": list(world.heads.config.rewards), "lag": world.heads.config.lag}
    index |= {"actions": world.actions.to_json()}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    edges, slopes = (table.numpy() for table in quantiles(torch.device("cpu")))
    starts = {"frames": world.starts.frames, "actions": world.starts.actions}
    np.savez_compressed(folder / ARRAYS, **starts, edges=edges, slopes=slopes)


def _check_request(folder: Path, precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; use {' or '.join(PRECISIONS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"'{folder}' is not empty; give a new folder, so that nothing is overwritten")
