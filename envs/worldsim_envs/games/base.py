"""The contract of a source game: what collection, evaluation and play need of the real thing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from worldsim.action import ActionSpec

Policy = Callable[["Game"], Any]
"""Chooses the native action for the game's present state."""

PolicyFactory = Callable[[np.random.Generator], Policy]
"""Makes the policy of one episode; all its randomness comes from the generator."""

FramePolicy = Callable[[np.ndarray], Any]
"""Chooses the native action for a frame (H, W, 3) uint8, and so plays the imagined game as it plays the real one."""

FramePolicyFactory = Callable[[np.random.Generator], FramePolicy]
"""Makes the policy of one episode; all its randomness comes from the generator."""

Position = tuple[float, float]
"""(x, y) in pixels of a frame: x to the right, y down, the centre of the top left pixel is (0, 0)."""


class Game(ABC):
    """One running real game with frames (height, width, 3) uint8.

    `step(action)` takes the present frame to the next one. A game is deterministic: the same seed and actions give
    the same frames, rewards and end.
    """

    name: ClassVar[str]
    env_id: ClassVar[str]
    """Id of the same game in gymnasium's registry."""
    licence: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide the game's bytes."""
    fps: ClassVar[int]
    height: ClassVar[int]
    width: ClassVar[int]
    actions: ClassVar[ActionSpec]
    max_episode_steps: ClassVar[int]
    """No episode is longer; the game's own end comes first."""
    effects: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """What an action does, in parts: of each part its name, and the class of every native action in it, in the order
    of the action table, or of `choices`. Actions of one class do the same to that part. Empty where it is not known."""
    choices: ClassVar[tuple[tuple[float, ...], ...]] = ()
    """Where the game's own action is a vector: some that stand for all, for tests that try every action."""
    state_names: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that `visible_state` gives; empty where it gives none."""
    draws_player: ClassVar[bool] = True
    """Whether the player is drawn where `player_xy` says; not so in a view through their eyes, or of gauges."""
    sign_test_steps: ClassVar[int] = 8
    """How long the sign test holds a command: enough to see a move, too short for much to get in its way."""

    @abstractmethod
    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        """Start an episode and return its first frame. The seed decides a random, unrecorded opening."""

    @abstractmethod
    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        """Play one native action; returns the next frame, the reward of this step and whether the episode ended.

        Raises ValueError for an action the game does not have, RuntimeError after the end or before a reset.
        """

    def last_frames(self, actions: Iterable[Any], count: int) -> np.ndarray:
        """Play native actions, up to the end of the episode, and return the last `count` of the frames they lead to,
        (n, height, width, 3) uint8: fewer where fewer were played. For adapters whose drawing takes long to override.
        """
        shown: deque[np.ndarray] = deque(maxlen=count)
        for action in actions:
            frame, _, ended = self.step(action)
            shown.append(frame)
            if ended:
                break
        return np.stack(shown) if shown else np.empty((0, self.height, self.width, 3), np.uint8)

    @abstractmethod
    def save(self) -> Any:
        """Everything that decides the future, for `restore`. Valid as long as the game is open."""

    @abstractmethod
    def restore(self, state: Any) -> np.ndarray:
        """Go back to a saved state, exactly, and return the frame that was shown there."""

    def is_obeyed(self) -> bool:
        """Whether the next command moves the player, who is not stunned or thrown about; the sign test looks here for
        states to begin from. RuntimeError before a reset."""
        return True

    @abstractmethod
    def close(self) -> None:
        """Release the game."""

    @classmethod
    @abstractmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        """Ways to play this game, by name, in the order in which collection takes turns; one is called "random"."""

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """What a dataset says of the game it is of, as data for JSON."""
        return {
            "game": cls.name,
            "env_id": cls.env_id,
            "licence": cls.licence,
            "versions": {package: version(package) for package in cls.packages},
            "fps": cls.fps,
            "height": cls.height,
            "width": cls.width,
            "actions": cls.actions.to_json(),
        }

    @classmethod
    def frame_policies(cls) -> Mapping[str, FramePolicyFactory]:
        """Ways to play by the frames alone, from bad to good, by name; "random" is one. More than 15 rank a world."""
        from worldsim_envs.games.policies import blind_policies

        return blind_policies(cls.actions)

    @classmethod
    def natives(cls) -> np.ndarray:
        """Every native action, (N,) int64, or `choices` as (N, A) float32; ValueError in a game that names none."""
        if cls.actions.table is not None:
            return np.arange(len(cls.actions.table))
        if not cls.choices:
            raise ValueError(f"{cls.name} has no table of actions to try one by one; name some in Game.choices")
        return np.array(cls.choices, np.float32)

    @classmethod
    def reads_opponent(cls) -> bool:
        """Whether the game has an `opponent_xy` of its own."""
        return cls.opponent_xy is not Game.opponent_xy

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Where the player is, read from a frame (height, width, 3) uint8 alone; None when none is to be seen."""
        return None

    @staticmethod
    def opponent_xy(frame: np.ndarray) -> Position | None:
        """Where the opponent is, read from a frame (height, width, 3) uint8 alone; None when none is to be seen."""
        return None

    def visible_state(self) -> np.ndarray | None:
        """Numbers of the present state that its frame shows, (S,) float64; None in a game that does not tell them.

        In frame pixels where they are places. NaN for what is not there now.
        """
        return None

    def luck(self) -> Any | None:
        """The hidden chance that the present state holds; None in a game where it is not known.

        It decides what comes, none of it is to be seen yet, and nothing the player did led to it.
        """
        return None

    def set_luck(self, luck: Any) -> None:
        """Change the luck of the present state to one that `luck` gave, and nothing else."""
        raise NotImplementedError(f"{self.name} has no luck to set; it can be set where luck() is not None")

    def reroll(self, rng: np.random.Generator) -> None:
        """Change the luck of the present state to one that is drawn evenly from all it could have been."""
        raise NotImplementedError(f"{self.name} has no luck to draw; it can be drawn where luck() is not None")

    def __enter__(self) -> Game:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
