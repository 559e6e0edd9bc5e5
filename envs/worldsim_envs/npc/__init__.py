"""Scenes with an NPC: what the player does, who the NPC is, and its reaction as a clip.

from worldsim_envs.npc import NPCScene

scene = NPCScene("game", seed=3, temperament="timid")
scene.react("threaten", frames=24).save("flees.gif")
"""

from worldsim_envs.npc.clip import Clip, save_clips
from worldsim_envs.npc.scene import NPCScene

__all__ = ["Clip", "NPCScene", "save_clips"]
