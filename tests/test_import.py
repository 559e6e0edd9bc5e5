"""What `import worldsim` loads."""

import subprocess
import sys

import pytest

import worldsim

LIGHT = ["worldsim", "worldsim.action", "worldsim.cli", "worldsim.info", "worldsim.play"]
LIGHT += ["worldsim.serve", "worldsim.worlds", "worldsim.player.game", "worldsim_envs", "worldsim_training"]


def modules_after(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_module_loads_neither_torch_nor_diffusers(module):
    assert modules_after(f"import {module}").isdisjoint({"torch", "diffusers"})


def test_importing_the_servers_command_loads_no_server():
    assert modules_after("import worldsim.serve").isdisjoint({"fastapi", "uvicorn", "playwright", "pygame"})


def test_import_registers_the_environments():
    code = "import worldsim, gymnasium; gymnasium.spec('worldsim/Boxing-v0')"
    assert "torch" not in modules_after(code)


def test_every_public_name_can_be_imported():
    for name in worldsim.__all__:
        value = getattr(worldsim, name)
        assert name == "__version__" or value.__name__ == name
        assert name in dir(worldsim)


def test_an_unknown_name_tells_the_known_ones():
    with pytest.raises(AttributeError, match="'WorldModle'.*WorldModel"):
        worldsim.WorldModle  # noqa: B018
