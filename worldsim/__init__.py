"""Interactive worlds painted by few-step causal video diffusion models.

`import worldsim` registers the environments (`gymnasium.make("worldsim/Boxing-v0")`) and loads no torch: each name
below is imported from its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import worldsim_envs  # noqa: F401  registers the environments with gymnasium

if TYPE_CHECKING:
    from worldsim.action import ActionSpec, Channel
    from worldsim.world_info import WorldInfo
    from worldsim.world_model import WorldModel, WorldState
    from worldsim.worlds import list_worlds, world_path

__version__ = "0.1.0"

__all__ = [
    "ActionSpec",
    "Channel",
    "WorldInfo",
    "WorldModel",
    "WorldState",
    "__version__",
    "list_worlds",
    "world_path",
]

# `worldsim.rollout` is missing on purpose: it is a module, so a function of that name would depend on import order.
_MODULE_OF = {
    "ActionSpec": "worldsim.action",
    "Channel": "worldsim.action",
    "WorldInfo": "worldsim.world_info",
    "WorldModel": "worldsim.world_model",
    "WorldState": "worldsim.world_model",
    "list_worlds": "worldsim.worlds",
    "world_path": "worldsim.worlds",
}


def __getattr__(name: str):
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'worldsim' has no attribute {name!r}; it has {', '.join(_MODULE_OF)}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
