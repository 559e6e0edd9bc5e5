"""How tests play a source game through its own policies."""

import numpy as np


def mixed_play(game, steps):
    """Frames (steps + 1, H, W, 3) and visible states (steps + 1, S) under the mixed policy."""
    choose = game.policies()["mixed"](np.random.default_rng(0))
    frames, states = [game.reset(0)], [game.visible_state()]
    for _ in range(steps):
        frames.append(game.step(choose(game))[0])
        states.append(game.visible_state())
    return np.stack(frames), np.stack(states)


def score(game, policy, steps):
    """The sum of rewards of so many steps under a policy of that name."""
    choose = game.policies()[policy](np.random.default_rng(1))
    game.reset(1)
    return sum(game.step(choose(game))[1] for _ in range(steps))
