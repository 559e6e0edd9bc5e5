"""An exported world in play: start states, steps, save states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from worldsim.action import ActionSpec
from worldsim.checks import checked_steps, is_whole
from worldsim.exported.folder import GRAPHS, graph_file, read_folder
from worldsim.exported.noise import END_STREAM, Quantiles, Stream

try:
    import onnxruntime
except ModuleNotFoundError:
    message = 'an exported world needs onnxruntime: pip install "worldsim[export]"'
    raise ModuleNotFoundError(message, name="onnxruntime") from None


@dataclass
class OnnxState:
    """Everything that changes while a world is played."""

    memory: dict[str, np.ndarray]
    """As `worldsim.cache.KVCache.remembered`; a commit answers new arrays and never changes these."""
    noise: Stream
    past: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 each, the frames that were on the screen, the present one last: the heads' memory."""
    held: np.ndarray
    """(A,) channel vector of the last action, with the conditions that hold; never changed in place."""
    step_count: int = 0

    @property
    def last(self) -> np.ndarray:
        """(H, W, 3) uint8, the frame now on the screen."""
        return self.past[-1]

    def clone(self) -> OnnxState:
        """An independent copy that continues exactly as this one would: a save state."""
        return replace(self, memory=dict(self.memory), noise=replace(self.noise))


@dataclass(frozen=True)
class OnnxStep:
    """What one step returns: frame (H, W, 3) uint8, reward, NaN where the network's answer held one, and the end."""

    frame: np.ndarray
    reward: float
    ended: bool


class OnnxWorld:
    """A playable world without torch: `reset` to a start state, then `step` under actions.

    folder: what `worldsim export` wrote. threads: of the processor, for one network call; None takes all cores.
    Raises FileNotFoundError or ValueError in one line where the folder is no exported world or is damaged.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        if threads is not None and (not is_whole(threads) or threads < 1):
            raise ValueError(f"threads={threads!r}; give a number from 1, or None for all cores")
        index, arrays = read_folder(folder)
        self.info: dict = index["world"]
        """The fields of `worldsim.world_info.WorldInfo`."""
        self.precision: str = index["precision"]
        self.actions = ActionSpec.from_json(index["actions"])
        self.sigmas = {int(steps): tuple(levels) for steps, levels in index["sigmas"].items()}
        """Denoising steps a frame -> the noise levels of their network calls."""
        self.rewards = np.array(index["rewards"], np.float32)
        self.lag = index["lag"]
        """Frames that the heads look back on, as `worldsim.heads.OutcomeHead`'s."""
        self.start_frames, self.start_actions = arrays["frames"], arrays["actions"]
        """(S, K, H, W, 3) uint8; (S, K-1[, A]) native actions between them."""
        self.quantiles = Quantiles(arrays["edges"], arrays["slopes"])
        self._graphs = {name: Graph(Path(folder).expanduser() / graph_file(name), threads) for name in GRAPHS}

    def __deepcopy__(self, memo: dict) -> OnnxWorld:
        """Itself, as `WorldModel`."""
        return self

    def reset(self, *, start: int = 0, seed: int = 0, conditions: Mapping[str, str] | None = None) -> OnnxState:
        """A world that remembers one of the start states.

        seed: of its noise. conditions: group -> value of what holds from the first step on; None takes what held at the
        start state's last action. ValueError in one line for a start, a group or a value that there is not.
        """
        self.check_start(start)
        frames, actions = self.start_frames[start], self.actions.encode(self.start_actions[start])
        held = self.actions.condition_vector(conditions)
        if conditions is None and len(actions):
            held = self.actions.hold(actions[-1], held)
        state = OnnxState(self._graphs["commit"].empty_memory(), Stream(seed), self._past(frames), held)
        unknown = np.zeros(self.actions.size, np.float32)
        for frame, action, known in zip(frames, (unknown, *actions), (False, *[True] * len(actions)), strict=True):
            state.memory = self._commit(state.memory, _to_network(frame), action, known)
        return state

    def check_start(self, start: int) -> None:
        """ValueError in one line for a start that there is not."""
        if not is_whole(start) or not 0 <= start < len(self.start_frames):
            raise ValueError(f"start={start!r}; this world has start states 0..{len(self.start_frames) - 1}")

    def checked_steps(self, steps: int) -> int:
        """A number of denoising steps that this world knows; ValueError in one line for any other."""
        return checked_steps(steps, self.sigmas)

    def step(self, state: OnnxState, action: np.ndarray, *, steps: int | None = None) -> OnnxStep:
        """Change the state by one frame under an action vector (A,), painted in `steps` network calls.

        `actions.encode` makes the vector of one of the game's own actions; where it names no value of a condition, the
        one that held goes on. ValueError for another shape or count.
        """
        vector, levels = self.actions.hold(self._checked(action), state.held), self._levels(steps)
        painted, pending = self._paint(state, vector, levels)
        painted = np.clip(painted, -1.0, 1.0)
        sound = not np.isnan(painted).any()
        frame = self._shown(_to_pixels(painted), state.last) if sound else state.last
        after = _to_network(frame)
        reward, ended = self._outcome(self._before(state.past), after, state.noise)
        if levels[-1] <= self.info["kept_sigma"]:
            pending = pending if sound else {name: np.zeros_like(array) for name, array in pending.items()}
            state.memory = self._new_memory("keep", {"frame": after, **pending, **state.memory})
        else:
            state.memory = self._commit(state.memory, after, vector, True)
        state.past, state.held, state.step_count = (*state.past[1:], frame), vector, state.step_count + 1
        return OnnxStep(frame, reward if sound else float("nan"), ended)

    def conditions(self, state: OnnxState) -> dict[str, str]:
        """Group -> value of what holds in this world; empty in one without conditions."""
        return self.actions.conditions_of(state.held)

    def set_conditions(self, state: OnnxState, conditions: Mapping[str, str]) -> None:
        """Change what holds in this world from the next step on, whole or some groups of it; ValueError in one line for
        a name that there is not."""
        state.held = self.actions.condition_vector(conditions, state.held)

    def _paint(
        self, state: OnnxState, vector: np.ndarray, levels: tuple[float, ...]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """As `worldsim.sampler.FewStepSampler`: predict, noise again with fresh noise, repeat. Also what the last call
        has left."""
        shape = (1, 3, self.info["height"], self.info["width"])
        x_t = state.noise.draw(shape, self.quantiles)
        for sigma, sigma_next in zip(levels, (*levels[1:], None), strict=True):
            asked = {"x_t": x_t, "sigma": np.array([sigma], np.float32), "action": vector[None], **state.memory}
            pending = self._graphs["denoise"](asked)
            x_0 = pending.pop("x_0")
            if sigma_next is not None:
                x_t = (1.0 - sigma_next) * x_0 + sigma_next * state.noise.draw(shape, self.quantiles)
        return x_0, pending

    def _shown(self, frame: np.ndarray, last: np.ndarray) -> np.ndarray:
        """As `worldsim.world_model.WorldModel.shown`: what hardly changes keeps its bytes."""
        if not (still := self.info.get("still_levels", 0)):
            return frame
        change = np.abs(frame.astype(np.int16) - last).max(axis=-1, keepdims=True)
        return np.where(change <= still, last, frame)

    def _past(self, frames: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `worldsim.world_model.WorldModel`'s: the last `lag` frames, the first one for those before it."""
        return tuple(frames[max(0, len(frames) - back)] for back in range(self.lag, 0, -1))

    def _before(self, past: tuple[np.ndarray, ...]) -> np.ndarray:
        """As `worldsim.heads.before_of`."""
        shown = past if self.lag == 1 else (past[0], past[-1])
        return np.concatenate([_to_network(frame) for frame in shown], axis=1)

    def _commit(self, memory: dict, frame: np.ndarray, vector: np.ndarray, known: bool) -> dict[str, np.ndarray]:
        words = {"frame": frame, "action": vector[None], "known": np.array([known])}
        return self._new_memory("commit", {**words, **memory})

    def _new_memory(self, graph: str, asked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name.removeprefix("new."): array for name, array in self._graphs[graph](asked).items()}

    def _outcome(self, before: np.ndarray, after: np.ndarray, noise: Stream) -> tuple[float, bool]:
        """As `worldsim.heads.likeliest` and `worldsim.world_model.WorldModel.outcome`."""
        told = self._graphs["heads"]({"before": before, "after": after})
        logits, odds = told["reward_logits"][0], told["end_logit"][0]
        sound = np.isfinite(logits).all() and np.isfinite(odds)
        reward = float(self.rewards[logits.argmax()]) if sound else float("nan")
        if np.isin(np.float32(reward), np.float32(self.info.get("final_rewards", ()))):
            return reward, True
        return self._drawn(reward, float(odds), noise) if self.info.get("draws_ends") else (reward, bool(odds > 0))

    def _drawn(self, reward: float, odds: float, noise: Stream) -> tuple[float, bool]:
        drawn = float(replace(noise, seed=noise.seed ^ END_STREAM).draw((), self.quantiles))
        ended = math.erfc(-drawn / math.sqrt(2)) / 2 < 1 / (1 + math.exp(min(-odds, 700.0)))
        paid = self.info.get("drawn_end_reward")
        by_chance = ended and odds <= 0 and not math.isnan(reward)
        return (paid if by_chance and paid is not None else reward), ended

    def _levels(self, steps: int | None) -> tuple[float, ...]:
        return self.sigmas[self.info["default_steps"] if steps is None else self.checked_steps(steps)]

    def _checked(self, action: np.ndarray) -> np.ndarray:
        if np.shape(action) != (self.actions.size,):
            raise ValueError(f"action has shape {np.shape(action)}; give one vector ({self.actions.size},)")
        return self.actions.encode_channels(action)


class Graph:
    """One ONNX graph: arrays by name in, arrays by name out; inputs that it does not use are left out."""

    def __init__(self, file: Path, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = self.session.run(self.outputs, {name: arrays[name] for name in self.inputs})
        return dict(zip(self.outputs, answers, strict=True))

    def empty_memory(self) -> dict[str, np.ndarray]:
        """Zeros for each output that is called "new." and an input's name."""
        names = [name.removeprefix("new.") for name in self.outputs]
        shapes = {each.name.removeprefix("new."): each for each in self.session.get_outputs()}
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
        return {name: np.zeros(shapes[name].shape, kinds[shapes[name].type]) for name in names}


def _to_network(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [-1, 1], as `worldsim.codec.PixelCodec.encode`."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(127.5) - np.float32(1)


def _to_pixels(frame: np.ndarray) -> np.ndarray:
    """The way back, as `worldsim.codec.PixelCodec.decode`."""
    levels = np.rint((frame[0] + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
