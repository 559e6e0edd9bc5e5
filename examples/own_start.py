"""One past of one's own, two imagined futures: python examples/own_start.py [FOLDER OF A WORLD OF BOXING].

The past comes from the real game here (pip install "worldsim[atari]"); any frames and actions will do.
"""

import sys

import gymnasium as gym
import numpy as np
from PIL import Image

import worldsim  # noqa: F401 - registers the worldsim/... ids
from worldsim_envs.games import make_game

env = gym.make("worldsim/Boxing-v0", world=sys.argv[1] if len(sys.argv) > 1 else "boxing")


def record_past(frames=8):
    """Frames (K, H, W, 3) of the real game and the K - 1 actions between them."""
    with make_game("boxing") as game:
        play = game.policies()["random"](np.random.default_rng(3))
        seen, done = [game.reset(seed=3)], []
        for _ in range(90):
            done.append(play(game))
            seen.append(game.step(done[-1])[0])
    return {"frames": np.stack(seen[-frames:]), "actions": np.array(done[1 - frames :])}


def imagine(past, action, frames=8):
    """The last frame of the past and those that follow while the action is held, side by side."""
    observation, info = env.reset(seed=0, options=past)
    row, over = [observation], False
    while len(row) <= frames and not over:
        observation, reward, terminated, truncated, info = env.step(action)
        row.append(observation)
        over = terminated or truncated
    return np.hstack(row + [row[-1]] * (frames + 1 - len(row)))


past = record_past()
names = env.unwrapped.actions.names
picture = Image.fromarray(np.vstack([imagine(past, names.index(name)) for name in ("LEFT", "RIGHT")]))
picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save("own_start.png")
print("own_start.png: the player goes left above, right below, from the same past")
env.close()
