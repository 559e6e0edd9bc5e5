"""A world model as a gymnasium environment."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim.action import ActionSpec
from worldsim.checks import is_whole
from worldsim_envs.faults import NOT_FINITE
from worldsim_envs.games import game_name
from worldsim_envs.rules import NO_LIMIT, Rules, tensor
from worldsim_envs.save_state import SaveState, checked, generator

if TYPE_CHECKING:
    from worldsim.world_model import WorldModel


class WorldEnv(gym.Env):
    """A game that a network paints: the source game's own actions in, (H, W, 3) uint8 frames out.

    world:             a shipped world's name ("boxing"), a folder that `WorldModel.save_pretrained` wrote, or a
                       `WorldModel`, which environments may share.
    steps:             denoising steps a frame, one of the world's `step_choices`; None takes the world's default.
    device:            where the network runs, as torch names it ("cpu", "cuda").
    compile:           paint in native code, quicker and with other last bits: the first time compiles for about a
                       minute and needs a C++ compiler, later ones load in about 1.5 s. Where that cannot be, a warning
                       says so in one line and the world plays as without. A `WorldModel` is played as it was loaded.
    max_episode_steps: frames until `truncated`; None takes the world's own limit, -1 sets none. `gymnasium.make` keeps
                       this for its wrapper `TimeLimit` and tells the environment nothing of it: of
                       "worldsim/World-v0" it can shorten episodes only. `gymnasium.make_vec` hands it on, so there,
                       as here, it may be larger than the world's own.
    channel_actions:   actions are channel vectors (A,) float32 instead of the source game's own.
    fixed:             conditions that are no part of the action, so that an agent acts as the player alone:
                       {"npc": "timid"} has the NPC timid in every episode, {"npc": None} draws its temperament at each
                       reset. Their channels, and those that drive the NPC itself, leave `action_space` and `actions`;
                       `conditions` tells what holds, and the reset option of that name goes before.
    history:           frames that `rewind` can take back; each costs a copy of the world's memory.
    ood_every:         tell in `info["ood"]`, at every so many steps of an episode, how far the network is from its own
                       frame when it sees it again under a little noise, in grey levels (`WorldModel.doubt`): large
                       where the past is unlike the game. 0 never does; 1 makes a step a third slower.
    ood_limit:         truncate where that is larger; None never does.

    The same seed and actions give the same bytes. `info` holds `step` (frames since reset), `steps` (denoising steps
    a frame) and `start` (index of the start state, -1 for a past the caller gave).

    A NaN in the frame, reward or end is a fault, as in `WorldVectorEnv`: the episode is truncated with reward 0 and its
    last sound frame, and `info["fault"]` says so. An exception of the network is raised; the episode then is as it
    was, or, where `commit` failed, waits for `commit` again.

    TorchRL takes it as it is, `torchrl.envs.GymWrapper(gymnasium.make("worldsim/Boxing-v0"))`, with the frame under
    "pixels"; of batches, where it stands under "observation", those with autoreset_mode="SameStep" or "Disabled", for
    it resets by itself.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 15}

    def __init__(
        self,
        world: str | WorldModel = "boxing",
        *,
        render_mode: str | None = None,
        steps: int | None = None,
        device: str = "cpu",
        compile: bool = False,
        max_episode_steps: int | None = None,
        channel_actions: bool = False,
        fixed: Mapping[str, str | None] | None = None,
        history: int = 0,
        ood_every: int = 0,
        ood_limit: float | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"unknown render_mode {render_mode!r}; use None, 'rgb_array' or 'human'")
        limits = {"max_episode_steps": max_episode_steps, "ood_every": ood_every, "ood_limit": ood_limit}
        actions = {"channel_actions": channel_actions, "fixed": fixed}
        self.rules = Rules(world, device=device, compile=compile, **actions, **limits)
        self.model = self.rules.model
        info = self.model.info
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": int(info.fps)}
        self.observation_space, self.action_space = self.rules.observation_space, self.rules.action_space
        self._steps = self._usual_steps = self.rules.checked_steps(info.default_steps if steps is None else steps)
        self._history: deque[SaveState] = deque(maxlen=_history_length(history))
        self._state = self._painted = None
        self._held = self.rules.actions.condition_vector()
        self._over, self._sound = False, True
        self._frame = np.zeros(self.observation_space.shape, np.uint8)
        self._viewer = None

    @property
    def actions(self) -> ActionSpec:
        """What the actions mean: channels, names and keys. Those of the world, `model.actions`, less what is fixed."""
        return self.rules.role.actions

    def facts(self) -> dict[str, Any]:
        """What a dataset of imagined play says of the game; the adapter's name where there is one."""
        info = self.model.info
        shape = {"fps": info.fps, "height": info.height, "width": info.width}
        told = {"game": game_name(info.env_id) or info.name, "env_id": info.env_id, "licence": "imagined"}
        return told | {"versions": {"checkpoint": self.model.fingerprint}, **shape, "actions": self.actions.to_json()}

    @property
    def steps(self) -> int:
        """Denoising steps a frame; may be set while playing and then holds for later episodes too."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._steps = self._usual_steps = self.rules.checked_steps(steps)

    @property
    def conditions(self) -> dict[str, str]:
        """Group -> value of what holds in this scene, such as {"npc": "timid"}; empty in a world without conditions.

        May be set while playing, whole or some groups of it, and then holds from the next step on; an action that
        holds a condition's channel sets it too. ValueError in one line for a name that there is not.
        """
        return self.rules.actions.conditions_of(self._held)

    @conditions.setter
    def conditions(self, conditions: dict[str, str]) -> None:
        self._held = self.rules.actions.condition_vector(conditions, self._held)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode at one of the world's start states, or after a past of the caller's own.

        options, all optional:
            frames:  (K, H, W, 3) uint8, the past to go on from, oldest first; needs `actions`.
            actions: (K - 1,) the source game's own actions between those frames, whole ones where some is fixed.
            start:   index of the start state to take; drawn from the seed where it is left out.
            steps:   denoising steps a frame, for this episode only.
            conditions: {group: value}, what holds from the first step on, such as {"npc": "timid"}; where it is left
                     out, what is fixed, else what holds at the end of the past.
        Raises ValueError in one line for anything else and then leaves the running episode as it was.
        """
        options = self.rules.checked_options(options)
        super().reset(seed=seed)
        beginning = self.rules.begin(self.np_random, options)
        self._state = self.rules.enter(beginning)
        self._held = self.rules.conditions(beginning, options)
        self._steps, self._start, self._count = options.get("steps", self._usual_steps), beginning.start, 0
        self._painted, self._over = None, False
        self._history.clear()
        self._frame = np.array(beginning.frames[-1], np.uint8)
        self._show()
        return self._frame.copy(), self._info()

    def step(self, action):
        """Paint and commit the frame that the action leads to.

        action: one of the source game's own. Returns observation (H, W, 3) uint8, reward, terminated, truncated, info.
        Raises ValueError in one line for any other action and then leaves the episode as it was.
        """
        observation = self.paint(action)
        return observation, *self.commit()

    def paint(self, action) -> np.ndarray:
        """The first half of `step`: the next observation (H, W, 3) uint8, ready to be shown. `commit` must follow."""
        if self._state is None or self._over:
            raise ResetNeeded("the episode is over; call reset()" if self._over else "call reset() before step()")
        if self._painted is not None:
            raise ResetNeeded("a painted frame waits for commit(); call that, or reset()")
        vector = self.rules.role.encode(action)
        if vector.ndim != 1:
            raise ValueError(f"action has shape {np.shape(action)}; give one action of {self.action_space}")
        before = [self.save_state()] if self._history.maxlen else []
        held = self.rules.actions.hold(vector, self._held)
        vector, noise = tensor(held[None]), self._state.noise.clone()
        try:
            frame, sound = self.model.paint_checked(self._state, vector, steps=self._steps)
        except Exception:
            self._state.noise = noise
            raise
        self._history.extend(before)
        self._held = held
        self._painted, self._sound = (frame, vector), bool(sound[0])
        self._frame = _picture(frame)
        self._show()
        return self._frame.copy()

    def commit(self) -> tuple[float, bool, bool, dict[str, Any]]:
        """The second half of `step`: remember the painted frame. Returns reward, terminated, truncated, info."""
        self._check_painted()
        doubt = {"ood": self.doubt()} if self.rules.asks_doubt(self._count + 1) else {}
        outcome = self.model.commit(self._state, *self._painted)
        self._painted = None
        self._count += 1
        if not self._sound or bool(outcome.reward.isnan()[0]):
            self._over = True
            return 0.0, False, True, self._info() | {"fault": NOT_FINITE}
        terminated = bool(outcome.ended[0])
        truncated = bool(self.rules.is_late(self._count) or self.rules.is_strange(doubt.get("ood", 0.0)))
        self._over = terminated or truncated
        return float(outcome.reward[0]), terminated, truncated, self._info() | doubt

    def doubt(self) -> float:
        """How far the network is from the painted frame that waits for `commit`, as `ood_every` tells it."""
        self._check_painted()
        return float(self.model.doubt(self._state, *self._painted)[0])

    # --- save states ---

    def save_state(self) -> SaveState:
        """The episode as it stands; `load_state` goes on from there, bit for bit. Its `save(path)` writes a file."""
        if self._state is None:
            raise ResetNeeded("there is nothing to save yet; call reset() first")
        if self._painted is not None:
            raise ResetNeeded("a painted frame waits for commit(); call that before save_state()")
        rng = self.np_random.bit_generator.state
        episode = {"step": self._count, "steps": self._steps, "start": self._start, "over": self._over}
        return SaveState(self._state.clone(), self.model.fingerprint, rng, **episode, conditions=self.conditions)

    def load_state(self, state: SaveState | str | Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Go on from a saved state, or the file of one: observation and info, as of `reset`.

        The limit that `gymnasium.make` puts around an environment counts on as if nothing had been loaded; that of
        "worldsim/World-v0" and of this class is part of the state. Raises ValueError or FileNotFoundError in one line
        for a state of other weights or a damaged file, and then leaves the episode as it was.
        """
        state = checked(state, self.model)
        self._history.clear()
        return self._go_on(state)

    def fork(self, n: int) -> list[WorldEnv]:
        """n environments over the same weights that each go on from here, without a window or a history.

        The limit of a shipped world that `gymnasium.make` made is in the wrapper around it, `TimeLimit`, which no fork
        has; `copy.deepcopy` of the wrapped environment forks it with its wrappers.
        """
        if not is_whole(n) or n < 0:
            raise ValueError(f"cannot fork {n!r} environments; give a whole number from 0")
        state = self.save_state()
        forks = [self._alike() for _ in range(n)]
        for fork in forks:
            fork.load_state(state)
        return forks

    def __deepcopy__(self, memo: dict[int, Any]) -> WorldEnv:
        """A fork, or before the first reset an environment that has not begun either."""
        (copy,) = self.fork(1) if self._state is not None else (self._alike(),)
        copy.spec = self.spec
        return copy

    def _alike(self) -> WorldEnv:
        """An environment over the same weights and by the same rules, without a window or a history."""
        limit = NO_LIMIT if self.rules.limit is None else self.rules.limit
        rules, role = self.rules, self.rules.role
        same = {"max_episode_steps": limit, "channel_actions": role.channel_actions, "fixed": role.fixed}
        same |= {"steps": self._usual_steps, "ood_every": rules.ood_every, "ood_limit": rules.ood_limit}
        return WorldEnv(self.model, render_mode="rgb_array" if self.render_mode == "rgb_array" else None, **same)

    def rewind(self, k: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Take back the last k frames: observation and info, as of `reset`. Playing on gives the same frames again.

        Raises ValueError in one line where the history is shorter, and then leaves the episode as it was.
        """
        if not is_whole(k) or not 1 <= k <= len(self._history):
            most = f"1..{len(self._history)} frames" if self._history else "nothing; make it with history=N and play"
            raise ValueError(f"cannot rewind {k!r} frames; this environment can take back {most}")
        for _ in range(k):
            state = self._history.pop()
        return self._go_on(state)

    def _go_on(self, state: SaveState) -> tuple[np.ndarray, dict[str, Any]]:
        self._state = state.world.to(self.model.device)
        self.np_random = generator(state.rng)
        self._count, self._steps, self._start, self._over = state.step, state.steps, state.start, state.over
        self._held = self.rules.actions.condition_vector(state.conditions)
        self._painted = None
        self._frame = _picture(self._state.last)
        self._show()
        return self._frame.copy(), self._info()

    # --- showing ---

    def render(self) -> np.ndarray | None:
        """The current frame (H, W, 3) uint8 in mode "rgb_array"; mode "human" shows each frame by itself."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; use gym.make(id, render_mode='rgb_array')")
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one. The episode may go on."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Every useful set of held pygame keys and the action it means, as `gymnasium.utils.play` asks for it."""
        from worldsim.window import key_code

        names = sorted({name for keys in self.actions.keys.values() for name in keys})
        at_once = range(1, min(len(names), 5) + 1)
        return {
            tuple(sorted(key_code(name) for name in held)): self.actions.decode(self.actions.from_keys(held))
            for held in itertools.chain.from_iterable(itertools.combinations(names, n) for n in at_once)
        }

    def _check_painted(self) -> None:
        if self._painted is None:
            raise ResetNeeded("there is no painted frame; call paint(action) first")

    def _info(self) -> dict[str, Any]:
        return {"step": self._count, "steps": self._steps, "start": self._start}

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        if self._viewer is None:
            from worldsim.window import Viewer

            title, fps = f"worldsim: {self.model.info.name}", self.metadata["render_fps"]
            self._viewer = Viewer(title, self._frame.shape[:2], fps)
        self._viewer.show(self._frame)


def under_time_limit(**options) -> WorldEnv:
    """A `WorldEnv` for `gymnasium.make`, whose `TimeLimit` is the only limit and so can be changed or lifted."""
    return WorldEnv(**{"max_episode_steps": NO_LIMIT} | options)


under_time_limit.metadata = WorldEnv.metadata  # where gymnasium looks for what "rgb_array_list" can be made of


def _picture(frame) -> np.ndarray:
    """(1, 3, H, W) tensor -> (H, W, 3) uint8, an array of its own."""
    return frame[0].permute(1, 2, 0).cpu().numpy().copy()


def _history_length(asked: int) -> int:
    if not is_whole(asked) or asked < 0:
        raise ValueError(f"history={asked!r}; give a number of frames from 0")
    return int(asked)
