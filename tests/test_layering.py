"""Which module may import which, held against the source text; and what none of them may use."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"worldsim": ROOT, "worldsim_envs": ROOT / "envs", "worldsim_training": ROOT / "training"}

# Module of worldsim -> its layer; a module imports only from layers below its own.
LAYERS = {
    "worldsim.checks": -1,
    "worldsim.names": -1,
    "worldsim.resident": 0,
    "worldsim.action": 0,
    "worldsim.arguments": 0,
    "worldsim.budget": 0,
    "worldsim.worlds": 0,
    "worldsim.cache": 1,
    "worldsim.sampler": 1,
    "worldsim.codec": 1,
    "worldsim.heads": 1,
    "worldsim.noise": 1,
    "worldsim.memory": 1,
    "worldsim.cores": 1,
    "worldsim.world_files": 1,
    "worldsim.world_info": 2,
    "worldsim.world_state": 2,
    "worldsim.models": 2,
    "worldsim.engine": 3,
    "worldsim.rollout": 3,
    "worldsim.world_model": 4,
    "worldsim.late_commit": 5,
    "worldsim.benchmark": 6,
    "worldsim.bench": 7,
    "worldsim.exported": 4,
    "worldsim.export": 5,
    "worldsim.info": 5,
    "worldsim.shelf": 2,
    "worldsim.window": 5,
    "worldsim.replay": 8,
    "worldsim.render": 10,
    "worldsim.player": 9,
    "worldsim.play": 10,
    "worldsim.server": 10,
    "worldsim.serve": 11,
    "worldsim.cli": 12,
    "worldsim.__main__": 13,
    "worldsim.latency": 13,
}

# Modules that need no torch, not even inside a function.
TORCH_FREE = {
    "worldsim.action",
    "worldsim.arguments",
    "worldsim.checks",
    "worldsim.names",
    "worldsim.resident",
    "worldsim.budget",
    "worldsim.worlds",
    "worldsim.world_files",
    "worldsim.exported",
    "worldsim.info",
    "worldsim.shelf",
    "worldsim.window",
    "worldsim.player",
    "worldsim.play",
    "worldsim.serve",
    "worldsim.server",
    "worldsim.latency",
    "worldsim.cli",
    "worldsim.__main__",
}
TORCH_FREE |= {"worldsim_envs.games", "worldsim_envs.real", "worldsim_envs.source", "worldsim_envs.exported"}
HEAVY = {"torch", "diffusers", "torchmetrics", "tensorboard", "stable_baselines3"}

PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "os.system"}
FORBIDDEN_KEYWORDS = {"allow_pickle", "shell"}


def find_modules() -> dict[str, Path]:
    found = {}
    for package, root in PACKAGES.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = find_modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every name that is imported at any depth, as a dotted path: the module, or the thing taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; this project imports by full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, modules: set[str]) -> bool:
    """Whether a dotted path is one of the modules or lies inside one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def layer(name: str) -> int:
    owner = next((module for module in LAYERS if within(name, {module})), None)
    assert owner is not None, f"{name} has no layer; add it to LAYERS in tests/test_layering.py"
    return LAYERS[owner]


def sources(package: str) -> list[str]:
    return [name for name in MODULES if within(name, {package})]


@pytest.mark.parametrize("name", [name for name in sources("worldsim") if name != "worldsim"])
def test_imports_within_worldsim_point_down(name):
    package = name.rpartition(".")[0]
    for target in imports(TREES[name]):
        if not within(target, {"worldsim"}) or target == "worldsim.__version__":
            continue
        same_package = within(target, {name}) or (package != "worldsim" and within(target, {package}))
        assert same_package or layer(target) < layer(name), f"{name} imports {target}"


@pytest.mark.parametrize("name", sources("worldsim"))
def test_worldsim_imports_neither_envs_nor_training_but_for_the_registration(name):
    found = {target for target in imports(TREES[name]) if within(target, {"worldsim_envs", "worldsim_training"})}
    assert found == ({"worldsim_envs"} if name == "worldsim" else set())


@pytest.mark.parametrize("name", sources("worldsim_envs"))
def test_envs_do_not_import_training(name):
    assert not [target for target in imports(TREES[name]) if within(target, {"worldsim_training"})]


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, TORCH_FREE)])
def test_a_light_module_names_no_heavy_package(name):
    assert not [target for target in imports(TREES[name]) if within(target, HEAVY)]


PLAYER = {"worldsim.latency", "worldsim.play", "worldsim.player", "worldsim.window"}
FILMS = {"worldsim.player.clip": {"av", "PIL"}}


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, PLAYER)])
def test_the_player_needs_gymnasium_and_pygame_only_but_for_its_files(name):
    roots = {target.partition(".")[0] for target in imports(TREES[name])} - sys.stdlib_module_names
    assert roots <= {"gymnasium", "numpy", "pygame", "worldsim"} | FILMS.get(name, set())


@pytest.mark.parametrize("name", MODULES)
def test_only_a_game_adapter_imports_the_games_package(name):
    found = [target for target in imports(TREES[name]) if within(target, {"ale_py", "vizdoom"})]
    assert not found or within(name, {"worldsim_envs.games"})


@pytest.mark.parametrize("name", MODULES)
def test_nothing_reads_a_pickle_or_runs_text_as_code(name):
    assert not [target for target in imports(TREES[name]) if within(target, PICKLES | FORBIDDEN_CALLS)]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS, f"line {node.lineno}"
            used = {keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) != "False"}
            assert used.isdisjoint(FORBIDDEN_KEYWORDS), f"line {node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_opens_with_one_sentence(name):
    doc = ast.get_docstring(TREES[name]) or ""
    assert doc.partition("\n")[0].endswith((".", "?")), f"{name}: its first docstring line is no whole sentence"
