"""Gymnasium environments whose frames a world model paints.

Importing this package registers their ids. Entry points are strings, so that torch loads with the first `make`.
"""

from gymnasium.envs.registration import register, registry

# id -> (shipped world, time limit in steps)
_WORLDS = {"worldsim/Boxing-v0": ("boxing", 1800)}

for _id, (_world, _max_episode_steps) in _WORLDS.items():
    if _id not in registry:
        register(
            id=_id,
            entry_point="worldsim_envs.env:WorldEnv",
            max_episode_steps=_max_episode_steps,
            # The limit is gymnasium's TimeLimit alone, so that make(..., max_episode_steps=...) can change or lift it.
            kwargs={"world": _world, "max_episode_steps": -1},
        )

# Any world, by name or folder: make(..., world="runs/mine/world"). The limit is the world's own.
if "worldsim/World-v0" not in registry:
    register(id="worldsim/World-v0", entry_point="worldsim_envs.env:WorldEnv")

# The game Encounter itself, drawn by this package: what `worldsim_envs.games.encounter` records.
for _id, _npcs in (("worldsim/EncounterGame-v0", 1), ("worldsim/EncounterPairGame-v0", 2)):
    if _id not in registry:
        register(
            id=_id,
            entry_point="worldsim_envs.encounter.env:EncounterEnv",
            max_episode_steps=300,
            kwargs={"npcs": _npcs},
        )
