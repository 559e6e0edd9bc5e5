"""Gymnasium environments whose frames a world model paints.

Importing this package registers their ids. Entry points are strings, so that torch loads with the first `make`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gymnasium.envs.registration import register, registry

if TYPE_CHECKING:
    from worldsim_envs.npc import Clip, NPCScene

__all__ = ["Clip", "NPCScene"]

_VECTOR = "worldsim_envs.vector:WorldVectorEnv"

# id -> (shipped world, time limit in steps)
_WORLDS = {
    "worldsim/Boxing-v0": ("boxing", 1800),
    "worldsim/Encounter-v0": ("encounter", 300),
    "worldsim/TakeCover-v0": ("take_cover", 525),
    "worldsim/DeadlyCorridor-v0": ("deadly_corridor", 525),
    "worldsim/CarRacing-v0": ("carracing", 500),
    "worldsim/Freeway-v0": ("freeway", 2050),
}

for _id, (_world, _max_episode_steps) in _WORLDS.items():
    if _id not in registry:
        register(
            id=_id,
            entry_point="worldsim_envs.env:under_time_limit",
            vector_entry_point=_VECTOR,
            max_episode_steps=_max_episode_steps,
            kwargs={"world": _world},
        )

# Any world, by name or folder: make(..., world="runs/mine/world"). The limit is the world's own.
if "worldsim/World-v0" not in registry:
    register(id="worldsim/World-v0", entry_point="worldsim_envs.env:WorldEnv", vector_entry_point=_VECTOR)

# A world that `worldsim export` wrote: make(..., world=FOLDER). Needs onnxruntime, loads no torch.
if "worldsim/Exported-v0" not in registry:
    register(id="worldsim/Exported-v0", entry_point="worldsim_envs.exported:ExportedEnv")

# The real game that a world imagines, with the same face; needs the game's package, loads no network.
if "worldsim/Source-v0" not in registry:
    register(id="worldsim/Source-v0", entry_point="worldsim_envs.source:SourceEnv")

# The game Encounter itself, drawn by this package: what `worldsim_envs.games.encounter` records.
for _id, _npcs in (("worldsim/EncounterGame-v0", 1), ("worldsim/EncounterPairGame-v0", 2)):
    if _id not in registry:
        register(
            id=_id,
            entry_point="worldsim_envs.encounter.env:EncounterEnv",
            max_episode_steps=300,
            kwargs={"npcs": _npcs},
        )


def __getattr__(name: str):
    """Import a public name from its module on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'worldsim_envs' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module("worldsim_envs.npc"), name)
