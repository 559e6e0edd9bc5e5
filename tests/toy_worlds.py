"""The toy game with the face of a world, sound and frozen."""

import copy

import numpy as np
import torch
from toy_game import HEIGHT, WIDTH, ToyGame, advance, draw, read

from worldsim.world_info import WorldInfo
from worldsim.world_model import Step


class RealWorld:
    """The toy game with the face of a WorldModel: it reads its state off the last frame and plays on."""

    info = WorldInfo("toy", ToyGame.env_id, HEIGHT, WIDTH, 15, 4, max_episode_steps=340, shift=1.0)
    actions = ToyGame.actions
    device = torch.device("cpu")

    def reset(self, frames, actions, seeds):
        assert frames.shape[1:] == (4, 3, HEIGHT, WIDTH) and actions.shape[1:] == (3, 4) and len(seeds) == len(frames)
        return Worlds([read(frame) for frame in frames[:, -1].permute(0, 2, 3, 1).numpy()])

    def step(self, state, action, *, steps):
        state.of = [self.follow(*pair) for pair in zip(state.of, action.numpy(), strict=True)]
        frames = torch.from_numpy(np.stack([self.paint(one) for one in state.of])).permute(0, 3, 1, 2)
        return Step(frames, torch.zeros(len(frames)), torch.zeros(len(frames), dtype=torch.bool))

    def follow(self, state, vector):
        return advance(state, vector)

    def paint(self, state):
        return draw(state)


class Worlds:
    def __init__(self, states):
        self.of = states

    def clone(self):
        return copy.deepcopy(self)


class FrozenWorld(RealWorld):
    def follow(self, state, vector):
        return state
