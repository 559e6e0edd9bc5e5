"""A random agent in an imagined world: python examples/random_agent.py [WORLD FOLDER]."""

import sys

import gymnasium as gym

import worldsim  # noqa: F401 - registers the worldsim/... ids

world = sys.argv[1] if len(sys.argv) > 1 else "boxing"
env = gym.make("worldsim/Boxing-v0", world=world)
env.action_space.seed(0)
observation, info = env.reset(seed=0)
score, terminated, truncated = 0.0, False, False

while not (terminated or truncated) and info["step"] < 150:
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    score += reward

print(f"{info['step']} frames of {observation.shape}, score {score:+g}, over: {terminated or truncated}")
env.close()
