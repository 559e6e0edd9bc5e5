"""`worldsim.engine.network.PackedDiT` for one world as native code, compiled once for a machine and kept on disk."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from tqdm import tqdm

from worldsim.cache import KVCache
from worldsim.engine.network import Level, PackedDiT
from worldsim.models.dit import CausalDiT

INDUCTOR = {
    "freezing": True,
    # Each product is timed here as oneDNN does it and as a loop for its very size, and the quicker one is taken.
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "autotune_num_choices_displayed": 0,
    "max_autotune_report_choices_stats": False,
}
"""How the compiler is set."""

Constants = tuple[tuple, list, tuple]
"""The parts of a `Level`, in a form that the compiler's input may have."""


def compiled(network: CausalDiT | PackedDiT, folder: Path | None = None) -> CausalDiT | PackedDiT | CompiledDiT:
    """The network with its passes over one world compiled, some minutes of work, or loaded from an earlier time.

    folder: where compiled code is kept; None takes the user's cache. Warns in one line and answers the network itself
    where it is not packed for the CPU, there is no C++ compiler, or it fails; code that does not load is thrown away.
    """
    if not isinstance(network, PackedDiT):
        warnings.warn("only bfloat16 worlds on a CPU with such kernels are compiled; playing without", stacklevel=2)
        return network
    folder = (code_folder() if folder is None else folder) / fingerprint(network)
    files = {name: folder / f"{name}.pt2" for name in PASSES}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing and not _has_compiler():
        wanted = "no C++ compiler was found; install g++ or clang for compiled worlds; playing without"
        warnings.warn(wanted, stacklevel=2)
        return network
    try:
        for name in tqdm(missing, desc="compiling, this once", unit="pass", disable=not missing):
            _compile(PASSES[name](network), files[name])
        return CompiledDiT(network, files)
    except Exception as error:  # whatever a compiler says, a folder that cannot be written, a damaged file
        with suppress(OSError):
            for file in files.values():
                file.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"compiling or its code in {folder} failed ({reason}); playing without", stacklevel=2)
        return network


class CompiledDiT:
    """The same answers as the packed network up to rounding, for one world; batches go to the packed network.

    files: the compiled code of each of `PASSES`.
    """

    engine = "compiled"

    def __init__(self, packed: PackedDiT, files: Mapping[str, Path]) -> None:
        self.packed = packed
        self.files = files
        self.loaded: dict[str, Callable] = {}
        for name in AT_ONCE:
            self._load(name)

    def new_cache(self, worlds: int) -> KVCache:
        """As `CausalDiT.new_cache`."""
        return self.packed.new_cache(worlds)

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor:
        """As `CausalDiT.forward`."""
        many = len(x_t) > 1
        return self.packed(x_t, sigma, action, cache) if many else self.at_level(x_t, sigma.item(), action, cache)

    @torch.inference_mode()
    def at_level(self, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """As `PackedDiT.at_level`. One compiled pass serves both: it always leaves, where not asked aside."""
        packed = self.packed
        if len(x_t) > 1:
            return packed.at_level(x_t, sigma, action, cache, leave=leave)
        place = cache if leave else cache.aside()
        given = constants(packed.level_of(sigma)), packed.steer_of(action), place.tensors()
        return self._run("denoise", x_t, *given)[0]

    @torch.inference_mode()
    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """As `CausalDiT.keep`."""
        if len(x_0) > 1:
            self.packed.keep(x_0, cache)
        else:
            self._run("keep", x_0, cache.tensors())

    @torch.inference_mode()
    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`."""
        packed = self.packed
        if len(x_0) > 1 or action is None:
            packed.commit(x_0, action, cache)
        else:
            given = constants(packed.level_of(0.0)), packed.steer_of(action), cache.tensors()
            self._run("commit", x_0, *given)

    @torch.inference_mode()
    def advance(
        self, x_0: Tensor, action_0: Tensor, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache
    ) -> Tensor:
        """As `CausalDiT.advance`."""
        packed = self.packed
        if len(x_0) > 1:
            return packed.advance(x_0, action_0, x_t, sigma, action, cache)
        steers = torch.cat((packed.steer_of(action_0), packed.steer_of(action)))
        given = constants(packed.pair_of(sigma)), steers, cache.tensors()
        return self._run("both", torch.cat((x_0, x_t)), *given)[0]

    def _run(self, name: str, frames: Tensor, *given: Any) -> list[Tensor]:
        """The answers of a pass. Its inputs go in as one list of tensors, in the order of the pass's arguments."""
        return self._load(name)([frames.contiguous(), *leaves(given)])

    def _load(self, name: str) -> Callable[[list[Tensor]], list[Tensor]]:
        """The compiled code of that name, loaded once."""
        if name not in self.loaded:
            # Called itself, the package would read the order of its inputs from JSON each time, .15 ms.
            self.loaded[name] = torch._inductor.aoti_load_package(str(self.files[name])).loader.run
        return self.loaded[name]


class DenoisePass(nn.Module):
    """What is compiled of `forward`, leaving what it can: the level's constants, the action's part and the memory are
    inputs, so that one code serves all."""

    frames = 1

    def __init__(self, packed: PackedDiT) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x_t: Tensor, level: Constants, steer: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return self.packed.denoise(x_t, Level(*level), steer, self._cache(memory), leave=True)

    def _cache(self, memory: dict[str, Tensor]) -> KVCache:
        """The memory with the turns of its keys as constants, which the compiler would work out for every key."""
        return KVCache.of(memory, self.packed.turns)

    def example(self) -> tuple:
        """Inputs of its form."""
        network, cache = self.packed, self.packed.new_cache(1)
        frames = cache.previous.float().repeat(self.frames, 1, 1, 1)
        level = network.level_of(0.0) if self.frames == 1 else network.pair_of(0.0)
        steer = network.steer_of(torch.zeros(1, network.plain.config.action_size)).repeat(self.frames, 1, 1)
        return frames, constants(level), steer, cache.tensors()


class CommitPass(DenoisePass):
    """What is compiled of `commit`; it changes the memory."""

    def forward(self, x_0: Tensor, level: Constants, steer: Tensor, memory: dict[str, Tensor]) -> tuple[()]:
        self.packed.write(x_0, Level(*level), steer, self._cache(memory))
        return ()


class BothPass(DenoisePass):
    """What is compiled of `advance`; it changes the memory."""

    frames = 2

    def forward(self, frames: Tensor, pair: Constants, steers: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return self.packed.both(frames, Level(*pair), steers, self._cache(memory))


class KeepPass(DenoisePass):
    """What is compiled of `keep`; it changes the memory."""

    def forward(self, x_0: Tensor, memory: dict[str, Tensor]) -> tuple[()]:
        self.packed.push_pending(x_0, self._cache(memory))
        return ()

    def example(self) -> tuple:
        """Inputs of its form."""
        frames, _, _, memory = super().example()
        return frames, memory


PASSES = {"denoise": DenoisePass, "commit": CommitPass, "both": BothPass, "keep": KeepPass}
AT_ONCE = ("denoise", "commit")
"""Passes that every world wants, loaded with the network; the others are loaded when a world first asks for them."""


def constants(level: Level) -> Constants:
    """A level's parts as the passes take them."""
    return level.stem, level.blocks, level.head


def leaves(given: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(given, Tensor):
        return [given]
    return [leaf for each in (given.values() if isinstance(given, dict) else given) for leaf in leaves(each)]


@torch.no_grad()
def traced(work: DenoisePass) -> torch.export.ExportedProgram:
    """A pass over one world as a graph of torch's operations."""
    return torch.export.export(work, work.example(), strict=False)


def fingerprint(network: PackedDiT) -> str:
    """What compiled code depends on: weights, sizes, this package's and torch's version, the processor, its threads."""
    digest = hashlib.sha256(repr(sorted(network.plain.config.items(), key=str)).encode())
    machine = torch.__version__, platform.machine(), _processor(), torch.get_num_threads(), sys.version_info[:2]
    digest.update(repr(machine).encode())
    package = Path(__file__).parents[1]
    for file in sorted([*(package / "engine").glob("*.py"), package / "cache.py"]):
        digest.update(file.read_bytes())
    for weight in network.plain.state_dict().values():
        digest.update(weight.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def code_folder() -> Path:
    """The user's own cache of compiled worlds."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(cache) / "worldsim" / "compiled"


@torch.no_grad()
def _compile(work: DenoisePass, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first: what bears the right name is whole.
    with tempfile.TemporaryDirectory(dir=file.parent) as unfinished:
        path = Path(unfinished) / file.name
        torch._inductor.aoti_compile_and_package(traced(work), package_path=str(path), inductor_configs=INDUCTOR)
        path.replace(file)


def _has_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def _processor() -> str:
    """What native code may use here: the processor's features where the system tells them, else its name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), None)
    return found or platform.processor()
