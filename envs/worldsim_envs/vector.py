"""N worlds of one model as a gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from worldsim.action import ActionSpec
from worldsim.checks import is_whole
from worldsim_envs.faults import NOT_FINITE, BoundedLoader, StartLoader, describe, fault_infos
from worldsim_envs.rules import OPTIONS, Beginning, Rules, known_options, tensor
from worldsim_envs.save_state import SaveState, checked, generator

if TYPE_CHECKING:
    from torch import Tensor

    from worldsim.world_model import WorldModel, WorldState

RESET_MASK = "reset_mask"


class WorldVectorEnv(gym.vector.VectorEnv):
    """N worlds that one network paints in one batch; each behaves as a `WorldEnv` of its own.

    world, steps, device, max_episode_steps, channel_actions, fixed, ood_every, ood_limit: as in `WorldEnv`.
    autoreset_mode: an `AutoresetMode` of gymnasium or its value. NEXT_STEP begins a new episode at the step after the
                    last, whose action counts for nothing; SAME_STEP within the last step, with `final_obs` and
                    `final_info`; DISABLED leaves it to `reset(options={"reset_mask": ...})`.
    exact:          paint each world in a batch of one, for the speed of single environments.
    compile:        as in `WorldEnv`, on a CPU with `exact`; there a batch has no native code, and a warning says so.
    render_mode:    None or "rgb_array".
    start_loader:   a function (world, numpy Generator) -> reset options `start`, or `frames` and `actions`, which says
                    where that world begins, wherever `reset` does not; None draws one of the world's start states. It
                    is called in threads, for several worlds at once.
    patience_s:     seconds that a reset waits for start loaders.

    With N and the number of threads fixed, a world's frames are the same bytes in any place of the batch, whatever the
    other worlds do (in bfloat16, as worlds are loaded). With `exact` they also are the same at any N, and those of a
    `WorldEnv` with the same seed. Without it a frame painted from the same memory is within 16 of 255 grey levels of
    the single environment's, and within 0.5 on average (7 at most over 110 frames of the shipped world, in batches of
    2, 7 and 16 on two threads): products of larger matrices are summed in another order. Such differences grow as any
    other change of a world does.

    Seed s gives world i the seed s + i. Each world has generators of its own, which the others never move. An option
    of `reset` holds for every world it resets; `steps` holds for all worlds at once, until the next reset of all.

    A NaN in a world's frame, reward or end, or an exception that it provokes, is that world's fault: it is truncated
    with reward 0, its last sound frame and `infos["fault"]`, (N,) objects, the text or None, and begins anew by the
    autoreset mode; the others' frames keep their bytes. An episode that cannot begin is truncated so too and tried
    again at the next step. A start loader that fails, or hangs beyond `patience_s`, leaves its world a drawn start
    state and `infos["fault"]`. An exception from all worlds at once is raised, and a network call that hangs, hangs
    all of them (see `crowd`).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        world: str | WorldModel = "boxing",
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        exact: bool = False,
        compile: bool = False,
        render_mode: str | None = None,
        steps: int | None = None,
        device: str = "cpu",
        max_episode_steps: int | None = None,
        channel_actions: bool = False,
        fixed: Mapping[str, str | None] | None = None,
        start_loader: StartLoader | None = None,
        patience_s: float = 10.0,
        ood_every: int = 0,
        ood_limit: float | None = None,
    ) -> None:
        from worldsim_envs.crowd import InTurn, Together

        if not is_whole(num_envs) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}; give a number of worlds from 1")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; worlds in a batch have None or 'rgb_array'")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        limits = {"max_episode_steps": max_episode_steps, "ood_every": ood_every, "ood_limit": ood_limit}
        if compile and not exact and device == "cpu":
            gym.logger.warn("compile=True is for single worlds; a batch plays without, or with exact=True one by one")
            compile = False
        actions = {"channel_actions": channel_actions, "fixed": fixed}
        self.rules = Rules(world, device=device, compile=compile, **actions, **limits)
        self.model = self.rules.model
        self.num_envs, self.render_mode = int(num_envs), render_mode
        fps = int(self.model.info.fps)
        self.metadata = {**type(self).metadata, "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = self.rules.observation_space, self.rules.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        default = self.model.info.default_steps if steps is None else steps
        self._steps = self._usual_steps = self.rules.checked_steps(default)
        self._loader = None if start_loader is None else BoundedLoader(start_loader, patience_s)
        self._kind = InTurn if exact else Together
        self._crowd: Together | InTurn | None = None
        self._memories: dict[int, WorldState] = {}
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._count, self._start = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, np.int64)
        self._over = np.zeros(self.num_envs, bool)
        self._held = np.stack([self.rules.actions.condition_vector()] * self.num_envs)

    @property
    def actions(self) -> ActionSpec:
        """What each world's actions mean, as `WorldEnv.actions`."""
        return self.rules.role.actions

    @property
    def conditions(self) -> tuple[dict[str, str], ...]:
        """What holds in each world now, as `WorldEnv.conditions` tells it."""
        return tuple(self.rules.actions.conditions_of(held) for held in self._held)

    @property
    def np_random(self) -> tuple[np.random.Generator | None, ...]:
        """The generator of each world's starts, None before its first reset."""
        return tuple(self._rngs)

    @property
    def np_random_seed(self) -> tuple[int, ...]:
        """The seed of each world, -1 where it is not known."""
        return tuple(self._seeds)

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None):
        """Begin an episode in every world, or in those of `options["reset_mask"]`, (N,) bool.

        seed: s for the seeds s, s + 1, ...; one seed a world; or None, where each world's generator goes on.
        options: those of `WorldEnv.reset` beside the mask. Returns observations (N, H, W, 3) uint8 and infos.
        Raises ValueError or TypeError in one line for anything else and then leaves all worlds as they were.
        """
        frames, infos = self.reset_tensor(seed=seed, options=options)
        return _pictures(frames), infos

    def reset_tensor(self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None):
        """`reset` whose observations stay where the network is: (N, 3, H, W) uint8."""
        options = known_options(options, (*OPTIONS, RESET_MASK))
        mask = self._checked_mask(options.pop(RESET_MASK, None))
        if "steps" in options and not mask.all():
            raise ValueError("reset option 'steps' holds for all worlds; give it with a reset of all of them")
        options = self.rules.checked_options(options)
        seeds = self._checked_seeds(seed)
        if mask.all():
            self._steps = options.get("steps", self._usual_steps)
        for world in np.flatnonzero(mask):
            self._seed(world, seeds[world])
        faults, errors = self._begin(mask, options)
        for error in errors.values():
            raise error
        return self._crowd.frames(), self._infos(mask) | fault_infos(faults, self.num_envs)

    def step(self, actions):
        """Paint and commit the next frame of every world.

        actions: a batch of `action_space`. Returns observations (N, H, W, 3) uint8, rewards (N,) float64, terminations
        and truncations (N,) bool, infos. Raises ValueError in one line for any other action, ResetNeeded where a world
        waits for a reset, and then leaves all worlds as they were.
        """
        frames, rewards, terminations, truncations, infos = self.step_tensor(actions)
        if "final_obs" in infos:
            infos["final_obs"] = _final_pictures(infos["final_obs"], infos["_final_obs"])
        flags = terminations.cpu().numpy(), truncations.cpu().numpy()
        return _pictures(frames), rewards.double().cpu().numpy(), *flags, infos

    def step_tensor(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """`step` whose results stay where the network is: frames (N, 3, H, W) uint8, rewards (N,) float32, flags (N,).

        actions: a tensor on any device, or an array. In SAME_STEP mode `infos["final_obs"]` is a tensor of frames too.
        """
        vectors = self._checked_actions(actions)
        waiting = self._checked_waiting()
        due = self.rules.asks_doubt(self._count + 1) & ~waiting
        self._held = self.rules.actions.hold(vectors, self._held)
        outcome, faults = self._crowd.step(tensor(self._held), steps=self._steps, doubt=bool(due.any()))
        self._count += 1
        faults = self._faults(outcome.reward, faults, waiting)
        faulty = np.isin(np.arange(self.num_envs), list(faults))
        terminated = outcome.ended.cpu().numpy() & ~waiting & ~faulty
        truncated = (self.rules.is_late(self._count) & ~waiting) | faulty
        rewards = outcome.reward.masked_fill(tensor(waiting | faulty).to(outcome.reward.device), 0.0)
        infos = {}
        if due.any():
            doubt, told = outcome.doubt.double().cpu().numpy(), due & ~faulty
            infos |= {"ood": np.where(told, doubt, 0.0), "_ood": told}
            truncated |= self.rules.is_strange(infos["ood"])
        self._over = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._over.any():
            infos |= self._final(outcome.frame, infos | fault_infos(faults, self.num_envs))
            waiting |= self._over
        unloaded, errors = self._begin(waiting, {})
        truncated[list(errors)] = True
        faults |= unloaded | {world: f"start: {describe(error)}" for world, error in errors.items()}
        infos |= self._infos(np.ones(self.num_envs, bool)) | fault_infos(faults, self.num_envs)
        device = rewards.device
        return self._crowd.frames(), rewards, tensor(terminated).to(device), tensor(truncated).to(device), infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current frame (H, W, 3) uint8 of each world, in mode "rgb_array"."""
        if self.render_mode is None or self._crowd is None:
            return None
        return tuple(_pictures(self._crowd.frames()))

    # --- save states ---

    def save_state(self, world: int) -> SaveState:
        """One world's episode as it stands now, as `WorldEnv.save_state` returns it; either environment loads it."""
        if self._crowd is None:
            raise ResetNeeded("there is nothing to save yet; call reset() first")
        place = self._checked_world(world)
        episode = {"step": int(self._count[place]), "steps": self._steps, "start": int(self._start[place])}
        episode |= {"over": bool(self._over[place]), "conditions": self.rules.actions.conditions_of(self._held[place])}
        rng = self._rngs[place].bit_generator.state
        return SaveState(self._crowd.get(place), self.model.fingerprint, rng, **episode)

    def load_state(self, state: SaveState | str | Path, worlds: Sequence[int] | None = None) -> np.ndarray:
        """Go on from a saved state, or the file of one, in these worlds (None: in all of them, so many forks).

        Returns the observations (N, H, W, 3) uint8 of all worlds. The denoising steps stay those of the batch. Raises
        ValueError or FileNotFoundError in one line for a state of other weights or a damaged file, and then leaves all
        worlds as they were.
        """
        if self._crowd is None:
            raise ResetNeeded("there are no worlds yet to load a state into; call reset() first")
        state = checked(state, self.model)
        places = [self._checked_world(world) for world in (range(self.num_envs) if worlds is None else worlds)]
        loaded = state.world.to(self.model.device)
        for place in places:
            self._crowd.put(place, loaded)
            self._rngs[place] = generator(state.rng)
            self._held[place] = self.rules.actions.condition_vector(state.conditions)
            self._seeds[place] = -1
            self._count[place], self._start[place], self._over[place] = state.step, state.start, state.over
        return _pictures(self._crowd.frames())

    # --- episodes ---

    def _seed(self, world: int, seed: int | None) -> None:
        if seed is not None or self._rngs[world] is None:
            self._rngs[world], self._seeds[world] = gym.utils.seeding.np_random(seed)

    def _begin(self, mask: np.ndarray, options: dict[str, Any]) -> tuple[dict[int, str], dict[int, Exception]]:
        """Change the marked worlds: each begins an episode, one at a time, so that none depends on the others.

        Returns the faults of start loaders, and the errors of the worlds that could not begin and stay over. Before
        there are worlds at all, such an error is raised.
        """
        worlds = [int(world) for world in np.flatnonzero(mask)]
        starts, faults = self._load_starts(worlds, options)
        states, errors = {}, {}
        for world in worlds:
            try:
                beginning = self.rules.begin(self._rngs[world], options | starts.get(world, {}))
                states[world] = self._enter(beginning)
                self._start[world] = beginning.start
                self._held[world] = self.rules.conditions(beginning, options)
            except Exception as error:
                if self._crowd is None:
                    raise
                errors[world] = error
        if self._crowd is None:
            self._crowd = self._kind(self.model, [states[world] for world in range(self.num_envs)])
        else:
            for world, state in states.items():
                self._crowd.put(world, state)
        self._count[worlds], self._over[worlds] = 0, [world in errors for world in worlds]
        return faults, errors

    def _load_starts(self, worlds: list[int], options: dict[str, Any]) -> tuple[dict[int, dict], dict[int, str]]:
        """What the start loader says of these worlds, checked, and the faults of those where it failed."""
        if self._loader is None or not worlds or {"start", "frames"} & set(options):
            return {}, {}
        rngs = {world: np.random.default_rng(self._rngs[world].integers(2**63 - 1)) for world in worlds}
        answers, faults = self._loader(rngs)
        starts = {}
        for world, answer in answers.items():
            try:
                starts[world] = self.rules.checked_start(answer)
            except Exception as error:
                faults[world] = f"start loader: {describe(error)}"
        return starts, faults

    def _faults(self, rewards: Tensor, known: dict[int, str], waiting: np.ndarray) -> dict[int, str]:
        """The faults of worlds in play. What their starts left in memory may be at fault and is worked out again."""
        unsound = np.flatnonzero(rewards.isnan().cpu().numpy() & ~waiting)
        for world in unsound:
            self._memories.pop(int(self._start[world]), None)
        return {int(world): known.get(int(world), NOT_FINITE) for world in unsound}

    def _enter(self, beginning: Beginning) -> WorldState:
        """A world at that beginning; what a start state leaves in memory is worked out once and then copied."""
        if beginning.start < 0:
            return self.rules.enter(beginning)
        if beginning.start not in self._memories:
            self._memories[beginning.start] = self.rules.enter(beginning)
        return self._memories[beginning.start].with_noise(beginning.noise_seed)

    def _final(self, frames: Tensor, told: dict[str, Any]) -> dict[str, Any]:
        over = self._over.copy()
        return {
            "final_obs": frames,
            "_final_obs": over,
            "final_info": self._infos(over) | {key: values.copy() for key, values in told.items()},
            "_final_info": over.copy(),
        }

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """Infos of the marked worlds, zero elsewhere, each with its `_key` mask."""
        infos = {}
        for key, values in (
            ("step", self._count),
            ("steps", np.full(self.num_envs, self._steps)),
            ("start", self._start),
        ):
            infos[key], infos[f"_{key}"] = np.where(mask, values, 0), mask.copy()
        return infos

    # --- checks ---

    def _checked_actions(self, actions: Tensor | np.ndarray) -> np.ndarray:
        import torch

        if isinstance(actions, torch.Tensor):
            actions = actions.detach().cpu()
            actions = actions.float() if actions.is_floating_point() else actions  # numpy knows no bfloat16
        array = np.asarray(actions)
        if array.shape != self.action_space.shape:
            raise ValueError(f"actions have shape {array.shape}; {self.num_envs} worlds take {self.action_space.shape}")
        return self.rules.role.encode(array)

    def _checked_waiting(self) -> np.ndarray:
        """(N,) bool: the worlds whose episode is over and which this step begins anew."""
        if self._crowd is None:
            raise ResetNeeded("call reset() before step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any():
            over = ", ".join(map(str, np.flatnonzero(self._over)))
            raise ResetNeeded(f"the episode is over in world {over}; call reset() with options={{'{RESET_MASK}': ...}}")
        return self._over.copy()

    def _checked_mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool:
            raise TypeError(f"reset option '{RESET_MASK}' is {_kind(mask)}; give a numpy array of type bool")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset option '{RESET_MASK}' is {mask.tolist()}; mark at least one of {self.num_envs} worlds"
            )
        if self._crowd is None and not mask.all():
            raise ResetNeeded(f"call reset() for all worlds before one with '{RESET_MASK}'")
        return mask

    def _checked_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if not isinstance(seed, int | np.integer | Sequence | np.ndarray) or isinstance(seed, str):
            raise gym.error.Error(f"seed {seed!r} is no whole number from 0, and no list of one for each world")
        seeds = [seed + world for world in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds; give one each, or one number for all")
        for each in seeds:
            if each is not None and (not isinstance(each, int | np.integer) or each < 0):
                raise gym.error.Error(f"seed {each!r} is not a whole number from 0")
        return [None if each is None else int(each) for each in seeds]

    def _checked_world(self, world: int) -> int:
        if not is_whole(world) or not 0 <= world < self.num_envs:
            raise ValueError(f"there is no world {world!r}; this batch has worlds 0..{self.num_envs - 1}")
        return int(world)


def _autoreset_mode(asked: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(asked)
    except ValueError:
        modes = ", ".join(repr(mode.value) for mode in AutoresetMode)
        raise ValueError(f"unknown autoreset_mode {asked!r}; use one of {modes}") from None


def _pictures(frames: Tensor) -> np.ndarray:
    """(N, 3, H, W) tensor -> (N, H, W, 3) uint8, an array of its own, turned where the network is."""
    import torch

    return frames.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).cpu().numpy()


def _final_pictures(frames: Tensor, over: np.ndarray) -> np.ndarray:
    """(N,) objects, as gymnasium's own vector environments give them: the last picture of the worlds whose episode is
    over, None elsewhere."""
    pictures = np.full(len(over), None, dtype=object)
    for world in np.flatnonzero(over):
        pictures[world] = _pictures(frames[world : world + 1])[0]
    return pictures


def _kind(value: Any) -> str:
    return f"of type {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
