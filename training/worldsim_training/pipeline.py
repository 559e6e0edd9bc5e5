"""The stages of a world in turn, from recordings to the finished folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin

from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.rollout import Sampler
from worldsim.sampler import FewStepSampler, OdeSampler, ode_grid, step_sigmas
from worldsim.world_model import Starts, WorldInfo, WorldModel
from worldsim_envs.games import game_class
from worldsim_training import collect, loop, validate
from worldsim_training.config import LoopConfig, TrainingConfig
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.outcomes import Outcomes
from worldsim_training.teacher_forcing import TeacherForcing

TEACHER_STEPS = 16
VALIDATION_CLIPS = 32
NETWORK = "network"


class Pipeline:
    """One run: its configuration, its recordings and its folder. Each public method but `run` is a stage."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.world = config.world
        self.game = game_class(config.world.game)
        self.out = Path(config.out)
        self.device = torch.device(_device(config.device))

    def run(self) -> bool:
        """All stages, or the one asked for; False where `stop_after_s` was up before the end."""
        stages: dict[str, Callable[[], bool]] = {
            "collect": self.collect,
            "teacher_forcing": self.teacher_forcing,
            "consistency": self.consistency,
            "outcomes": self.outcomes,
            "export": self.export,
        }
        if self.config.stage is not None and self.config.stage not in stages:
            raise ValueError(f"unknown stage {self.config.stage!r}; use one of {', '.join(stages)}")
        chosen = [self.config.stage] if self.config.stage else list(stages)
        return all(stages[name]() for name in chosen)

    def collect(self) -> bool:
        """Record the game, unless the folder already holds the whole recording."""
        data = self.world.data
        collect.collect(
            collect.CollectConfig(out=data.folder, game=self.world.game, frames=data.frames, seed=data.seed), self.game
        )
        return True

    def teacher_forcing(self) -> bool:
        """Stage 1, from fresh weights or from `world.init`."""
        network = self._load(Path(self.world.init)) if self.world.init else self._fresh()
        stage = TeacherForcing(network, self.world.teacher_forcing, self.world.context)
        self._compile(stage.student)
        teacher = OdeSampler(ode_grid(TEACHER_STEPS, self.world.consistency.grid_shift).tolist())
        samplers = {1: self._few_step(1), 2: self._few_step(2), TEACHER_STEPS: teacher}
        return self._fit(stage, self.world.teacher_forcing.loop, samplers)

    def consistency(self) -> bool:
        """Stage 2, from stage 1's network."""
        stage = Consistency(self._load(self._result("teacher_forcing")), self.world.consistency, self.world.context)
        for network in (stage.teacher, stage.average, stage.student):
            self._compile(network)
        return self._fit(stage, self.world.consistency.loop, {n: self._few_step(n) for n in (1, 2, 4)})

    def outcomes(self) -> bool:
        """The reward and episode-end head, on real frames and on stage 2's."""
        config = self.world.outcomes
        recording = self._recording("train")
        rewards = tuple(float(value) for value in np.unique(recording.rewards))
        head = OutcomeHead(self.game.height, self.game.width, rewards, width_conv=config.width).to(self.device)
        painter = self._load(self._result("consistency"))
        self._compile(painter)
        clips = self._clips(recording, config.loop, reward_share=config.reward_share, end_share=config.end_share)
        return self._fit(Outcomes(head, painter, self._few_step(2)), config.loop, {}, clips)

    def export(self) -> bool:
        """Write the finished world to `<out>/world`."""
        info = WorldInfo(
            name=self.world.name,
            env_id=self.game.env_id,
            height=self.game.height,
            width=self.game.width,
            fps=self.game.fps,
            window_frames=self.world.model.window,
            max_episode_steps=self.game.max_episode_steps,
            shift=self.world.shift,
        )
        heads = OutcomeHead.from_pretrained(self._result("outcomes"), low_cpu_mem_usage=False)
        denoiser = self._load(self._result("consistency")).cpu()
        folder = self.out / "world"
        shutil.rmtree(folder, ignore_errors=True)
        WorldModel(info, self.game.actions, denoiser, heads, self._starts()).save_pretrained(folder)
        return True

    # --- what the stages share ---

    def _fit(
        self, stage: loop.Stage, config: LoopConfig, samplers: dict[int, Sampler], clips: ClipSampler | None = None
    ) -> bool:
        clips = clips or self._clips(self._recording("train"), config)
        folder = self.out / stage.name
        folder.mkdir(parents=True, exist_ok=True)
        done = loop.fit(stage, clips, config, folder, stop_after_s=self.config.stop_after_s)
        stage.average.save_pretrained(folder / NETWORK)
        if samplers:
            self._validate(stage.average, samplers, folder)
        return done

    def _validate(self, network: CausalDiT, samplers: dict[int, Sampler], folder: Path) -> None:
        past = self.world.model.window
        clips = ClipSampler(
            self._recording("validation"), past + validate.HORIZONS[-1], VALIDATION_CLIPS, seed=1, device=self.device
        ).sample()
        scores = {}
        for steps, sampler in samplers.items():
            imagined = validate.imagine(network, sampler, clips, past)
            scores[f"{steps}_step"] = validate.score(imagined, clips, past)
            validate.film_strip(imagined, clips, past, folder / f"strip_{steps}_step.png")
        (folder / "validation.json").write_text(json.dumps(scores, indent=2) + "\n")

    def _starts(self) -> Starts:
        recording = self._recording("validation")
        length, rng = self.world.model.window, np.random.default_rng(self.world.data.seed)
        firsts = recording.sample_starts(rng, self.world.starts, length)
        actions = np.stack([recording.actions[first + 1 : first + length] for first in firsts])
        decode = np.vectorize(self.game.actions.decode, signature="(a)->()")
        native = decode(actions) if self.game.actions.table is not None else actions
        return Starts(np.stack([recording.frames[first : first + length] for first in firsts]), native)

    def _recording(self, split: str) -> Recording:
        return Recording.load(self.world.data.folder, split)

    def _clips(self, recording: Recording, config: LoopConfig, **shares: float) -> ClipSampler:
        length = self.world.data.clip_frames
        return ClipSampler(recording, length, config.batch, config.seed, device=self.device, **shares)

    def _few_step(self, steps: int) -> FewStepSampler:
        return FewStepSampler(step_sigmas(steps, self.world.shift))

    def _fresh(self) -> CausalDiT:
        torch.manual_seed(self.world.teacher_forcing.loop.seed)
        model = vars(self.world.model)
        return CausalDiT(self.game.height, self.game.width, self.game.actions.size, **model).to(self.device)

    def _load(self, folder: Path) -> CausalDiT:
        network = CausalDiT.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
        if network.config.action_size != self.game.actions.size:
            seen = network.config.action_size
            raise ValueError(f"{folder} takes {seen} action channels; {self.game.name} has {self.game.actions}")
        return network.to(self.device)

    def _result(self, stage: str) -> Path:
        folder = self.out / stage / NETWORK
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no {folder}; run stage={stage} first")
        return folder

    def _compile(self, network: ModelMixin) -> None:
        """Change the network: its packed pass runs compiled, where a compiler is present."""
        if self.config.compile:
            network.packed = torch.compile(network.packed, dynamic=False)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
