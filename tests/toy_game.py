"""A small real game for tests, quick, with frames that are not square and show its whole state."""

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game
from worldsim_envs.games.policies import HeldRandom

HEIGHT, WIDTH, SIZE = 48, 64, 6
GRASS, WHITE, BLACK, YELLOW = (60, 150, 80), (230, 230, 230), (0, 0, 0), (240, 220, 40)
PERIOD = WIDTH
CHANNELS = ("up", "down", "left", "right")


def advance(state, vector):
    """The next (x, y, clock): two pixels a step, walls all around; the opponent follows the clock."""
    x, y, clock = state
    up, down, left, right = (int(round(float(button))) for button in vector)
    x, y = x + 2 * (right - left), y + 2 * (down - up)
    return int(np.clip(x, 2, WIDTH - SIZE - 2)), int(np.clip(y, 4, HEIGHT - SIZE - 2)), (clock + 1) % PERIOD


def draw(state):
    """(48, 64, 3) uint8: the player white, the opponent black, the clock a yellow dot on the top row."""
    x, y, clock = state
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    frame[:] = GRASS
    turn = 2 * np.pi * clock / PERIOD
    column, row = round(29 + 25 * np.cos(turn)), round(22 + 17 * np.sin(turn))
    frame[row : row + SIZE, column : column + SIZE] = BLACK
    frame[y : y + SIZE, x : x + SIZE] = WHITE
    frame[0, clock] = YELLOW
    return frame


def read(frame):
    """The state that a frame shows."""
    rows, columns = np.nonzero((frame == WHITE).all(axis=-1))
    return int(columns.min()), int(rows.min()), int((frame[0] == YELLOW).all(axis=-1).argmax())


def _centre(mask):
    rows, columns = np.nonzero(mask)
    return (float(columns.mean()), float(rows.mean())) if len(rows) >= SIZE else None


class ToyGame(Game):
    name, env_id, licence, packages = "toy", "Toy-v0", "none", ()
    fps, height, width, max_episode_steps = 15, HEIGHT, WIDTH, 340
    actions = ActionSpec(
        [Channel(name) for name in CHANNELS],
        [[x == name for x in CHANNELS] for name in ("noop", *CHANNELS)],
        names=("noop", *CHANNELS),
    )

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.state = int(rng.integers(5, 50)), int(rng.integers(5, 35)), int(rng.integers(PERIOD))
        self.steps = 0
        return draw(self.state)

    def step(self, action):
        self.state = advance(self.state, self.actions.encode(int(action)))
        self.steps += 1
        return draw(self.state), 0.0, self.steps >= self.max_episode_steps

    def save(self):
        return self.state, self.steps

    def restore(self, state):
        self.state, self.steps = state
        return draw(self.state)

    def close(self):
        pass

    @classmethod
    def policies(cls):
        return {"random": HeldRandom}

    @staticmethod
    def player_xy(frame):
        return _centre((frame > 180).all(axis=-1))

    @staticmethod
    def opponent_xy(frame):
        return _centre((frame < 50).all(axis=-1))

    def rollout(self, frames, seed, action=None):
        """(frames, H, W, 3) under random held actions, or one action throughout."""
        policy = HeldRandom(np.random.default_rng(seed))
        shown = [self.reset(seed)]
        while len(shown) < frames:
            shown.append(self.step(policy(self) if action is None else action)[0])
        return np.stack(shown)
