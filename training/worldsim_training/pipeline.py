"""The stages of a world in turn, from recordings to the finished folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from tqdm import tqdm

from worldsim.engine import GraphedDiT, graphed
from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.rollout import Sampler
from worldsim.sampler import NOMINAL_STEPS, FewStepSampler, OdeSampler, ode_grid, step_sigmas
from worldsim_envs.games import game_class
from worldsim_training import collect, dmd, finished_world, gates, loop, placement, plan, processes, validate
from worldsim_training.bidirectional import Bidirectional
from worldsim_training.config import (
    ConsistencyConfig,
    DmdConfig,
    OdeConfig,
    OutcomesConfig,
    TeacherForcingConfig,
    TrainingConfig,
    ValidationConfig,
)
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import Clip, ClipSampler, Recording
from worldsim_training.episodes import is_whole, looks_whole, read_meta
from worldsim_training.ode import OdeDistillation
from worldsim_training.outcomes import Outcomes
from worldsim_training.provenance import check_game, identity
from worldsim_training.stage_folder import NETWORK, SCORES, SETTINGS, StageFolder, network_hash, replace_folder
from worldsim_training.teacher_forcing import TeacherForcing

MOST_REWARDS = 64

StageConfig = TeacherForcingConfig | ConsistencyConfig | OdeConfig | DmdConfig | OutcomesConfig


class Pipeline:
    """One run: its configuration, its recordings and its folder. Each public method but `run` is a stage.

    Of several processes all train; the first alone records, scores, judges and writes, while the others wait.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.world = config.world
        self.game = game_class(config.world.game)
        self.out = Path(config.out)
        self.device = processes.own_device(placement.device_named(config.device))
        on_cpu = self.device.type == "cpu"
        self.validation = config.validation_on_cpu if on_cpu else config.validation
        if on_cpu and config.validation != ValidationConfig() and processes.is_first():
            tqdm.write("warning: a CPU's runs are scored as validation_on_cpu says, not validation", file=sys.stderr)
        self.started = processes.ask_first(time.monotonic)
        self.has_trained = False
        self.recordings: dict[str, Recording] = {}
        plan.check(config, self.validation)

    def run(self) -> bool:
        """All stages of the world, or the one asked for; False where `stop_after_s` was up before the end.

        GateFailed where a stage's scores do not let the next one begin.
        """
        return all(getattr(self, name)() for name in plan.stages(self.config))

    def collect(self) -> bool:
        """Record the game, unless the folder already holds it all; as the one stage asked for it reads every file."""
        whole = is_whole if self.config.stage == "collect" else looks_whole
        processes.ask_first(lambda: collect.ensure(self.world.data, self.game, whole))
        return True

    def bidirectional(self) -> bool:
        """Stage 0, from fresh weights. Its network cannot be played: no scores."""
        config = self.world.bidirectional

        def build() -> tuple[loop.Stage, ClipSampler]:
            stage = Bidirectional(self._fresh(), config, self.world.context)
            self._compile(stage.student)
            return stage, self._clips(config)

        return self._train(Bidirectional.name, config, None, build, {})

    def teacher_forcing(self) -> bool:
        """Stage 1, from fresh weights or from `world.init`."""
        config, init = self.world.teacher_forcing, self.world.init
        start = self._result(init) if init == "bidirectional" else Path(init) if init else None

        def build() -> tuple[loop.Stage, ClipSampler]:
            if init and init != "bidirectional":
                plan.check_network(start, self.world)
            stage = TeacherForcing(self._load(start) if start else self._fresh(), config, self.world.context)
            self._compile(stage.student)
            return stage, self._clips(config)

        steps = self.validation.teacher_steps
        teacher = OdeSampler(ode_grid(steps, self.world.consistency.grid_shift).tolist())
        samplers = self._few_steps() | {f"{steps}_step_ode": teacher}
        return self._train(TeacherForcing.name, config, start, build, samplers)

    def consistency(self) -> bool:
        """Stage 2, from stage 1's network."""
        config = self.world.consistency
        return self._distil(Consistency.name, config, lambda net: Consistency(net, config, self.world.context))

    def ode(self) -> bool:
        """Stage 2 in another way, from stage 1's network."""
        config, world = self.world.ode, self.world
        played = (world.context, world.shift, world.single_sigma)
        return self._distil(OdeDistillation.name, config, lambda net: OdeDistillation(net, config, *played))

    def dmd(self) -> bool:
        """Stage 3, from stage 2's network; left out while `world.dmd.loop.steps` is 0."""
        config = self.world.dmd
        if not config.loop.steps:
            raise ValueError("world.dmd.loop.steps is 0, which leaves stage dmd out; set it to at least 1")
        start, teacher = self._distilled(), self._result(dmd.TEACHERS[config.scoring])

        def build() -> tuple[loop.Stage, ClipSampler]:
            scorer = dmd.SCORERS[config.scoring](self._load(teacher), config.w)
            regulariser = self._regulariser() if config.consistency_weight else None
            sampler = self._few_step(config.student_steps)
            stage = dmd.Dmd(self._load(start), scorer, sampler.sigmas, self.world.shift, config, regulariser)
            measure = dmd.PlayedScore(stage.average, sampler, *self._held_out())
            stage.player = self._player(stage.student, compiled=True)
            measure.player = self._player(measure.network)
            stage.best = loop.Best(stage.average, measure, config.evaluate_every, config.patience)
            real = (regulariser.teacher, stage.average) if regulariser else ()
            for network in (stage.student, *scorer.networks, *real):
                self._compile(network)
            return stage, self._clips(config, clip_frames=config.context_frames + config.frames)

        samplers = self._few_steps()
        return self._train(dmd.Dmd.name, config, start, build, samplers, teacher=teacher, fit=dmd.fit)

    def outcomes(self) -> bool:
        """The reward and episode-end head, on real frames and on the released network's."""
        config, start = self.world.outcomes, self._released()

        def build() -> tuple[loop.Stage, ClipSampler]:
            torch.manual_seed(config.loop.seed)
            rewards = tuple(float(value) for value in np.unique(self._recording("train").rewards))
            head = self._head(config, rewards).to(self.device)
            painter = self._load(start) if config.painted else None
            if painter:
                self._compile(painter)
            shares = {"reward_share": config.reward_share, "end_share": config.end_share}
            clips = self._clips(config, first=config.lag, **shares)
            processes.ask_first(lambda: self._tell_missing(clips))
            return Outcomes(head, painter, self._few_step(2)), clips

        return self._train(Outcomes.name, config, start, build, {})

    def export(self) -> bool:
        """Write the finished world to `<out>/world`."""
        heads = OutcomeHead.from_pretrained(self._result("outcomes"), low_cpu_mem_usage=False, use_safetensors=True)
        self._check_painter()
        denoiser = self._load(self._released()).cpu()
        world = finished_world.assemble(self.world, self.game, denoiser, heads, self._recording("validation"))
        processes.ask_first(lambda: replace_folder(self.out / "world", world.save_pretrained))
        return True

    def _check_painter(self) -> None:
        """ValueError where the head learnt on frames of another network than the one that is released."""
        head, released = StageFolder(self.out / "outcomes"), self._released()
        if self.world.outcomes.painted and head.noted().get("start") not in (None, network_hash(released)):
            raise ValueError(
                f"the head in {head.path} learnt on frames of another network than {released}; "
                f"delete {head.path} and run stage=outcomes, or release the other with world.release"
            )

    # --- what the stages share ---

    def _distil(
        self, name: str, config: StageConfig, make: Callable[[CausalDiT], Consistency | OdeDistillation]
    ) -> bool:
        start = self._result("teacher_forcing")

        def build() -> tuple[loop.Stage, ClipSampler]:
            stage = make(self._load(start))
            for network in (stage.teacher, stage.average, stage.student):
                self._compile(network)
            return stage, self._clips(config)

        return self._train(name, config, start, build, self._few_steps())

    def _train(
        self,
        name: str,
        config: StageConfig,
        start: Path | None,
        build: Callable[[], tuple[loop.Stage, ClipSampler]],
        samplers: dict[str, Sampler],
        *,
        teacher: Path | None = None,
        fit: Callable[..., bool] = loop.fit,
    ) -> bool:
        """Train, save and score a stage, or pass it by where all that is done; False where the time is up."""
        folder = StageFolder(self.out / name)
        settings = self._settings(config, folder, start) | ({"teacher": network_hash(teacher)} if teacher else {})
        if processes.ask_first(lambda: self._is_done(folder, config, settings, SCORES if samplers else SETTINGS)):
            return True
        left_s = self.config.stop_after_s - (processes.ask_first(time.monotonic) - self.started)
        if self.config.stop_after_s and self.has_trained and left_s <= 0:
            return False
        plan.check_recording(self.config, read_meta(Path(self.world.data.folder), self.world.game))
        stage, clips = build()
        processes.ask_first(lambda: folder.begin(self.config))
        self.has_trained = True  # however short the time, every run makes an update
        stop_after_s = max(left_s, 1e-3) if self.config.stop_after_s else 0.0
        limits = {"stop_after_s": stop_after_s, "scale": self.config.scale}
        done = fit(stage, clips, config.loop, folder.path, settings=settings, **limits)
        if done:
            processes.ask_first(lambda: self._finish(folder, stage.average, samplers))
        return done

    def _is_done(self, folder: StageFolder, config: StageConfig, settings: dict[str, Any], last_written: str) -> bool:
        """Whether a stage was trained before; GateFailed where it was, but must not be followed."""
        if not folder.is_finished(config.loop, settings, last_written):
            return False
        tqdm.write(f"{folder.path.name}: finished before; delete {folder.path} to train it again")
        self._gate(folder.path.name)
        return True

    def _finish(self, folder: StageFolder, network: ModelMixin, samplers: dict[str, Sampler]) -> None:
        """Save, score and judge what a stage came to."""
        replace_folder(folder.path / NETWORK, network.save_pretrained)
        self._validate(folder, samplers)
        self._gate(folder.path.name)

    def _gate(self, name: str) -> None:
        """GateFailed where the stage's scores do not let the next one begin; stages without scores have no gate."""
        config = self.config.gates
        if not config.enabled or name not in gates.JUDGED:
            return
        scores = StageFolder(self.out / name).scores()
        if name == TeacherForcing.name:
            gates.judge_teacher(scores, config)
        else:
            gates.judge_student(name, scores, StageFolder(self.out / TeacherForcing.name).scores(), config)

    def _settings(self, config: StageConfig, folder: StageFolder, start: Path | None) -> dict[str, Any]:
        """All that decides a stage's result, as data for JSON."""
        world, noted = self.world, folder.noted()
        # What is off decides nothing by its other settings, and older runs do not name it.
        off = tuple(name for name in ("kept_", "drifted_") if not getattr(world.context, f"{name}share"))
        stage = asdict(config)
        if stage.get("lag") == 1:
            del stage["lag"]
        if init := stage.pop("init", None):  # as the start: by what is in it, not by its place, which it may have left
            stage["init"] = network_hash(Path(init)) if Path(init).is_dir() else noted.get("stage", {}).get("init")
        settings = {
            "game": world.game,
            "model": asdict(world.model),
            "data": asdict(world.data),
            "context": {key: value for key, value in asdict(world.context).items() if not key.startswith(off)},
            "stage": stage,
            "shift": world.shift,
            "single_sigma": world.single_sigma,
            "start": start and (network_hash(start) if start.is_dir() else noted.get("start")),
        }
        if world.context.kept_share:
            settings["kept_sigma"] = world.kept_sigma
        if not noted or "recording" in noted:  # older runs do not name theirs
            settings["recording"] = identity(Path(world.data.folder)) or noted.get("recording")
        return json.loads(json.dumps(settings))

    def _validate(self, folder: StageFolder, samplers: dict[str, Sampler]) -> None:
        """Score the network that was just saved, in the precision in which it will be played."""
        if not samplers:
            return
        clips, past = self._held_out()
        network = self._player(self._load(folder.path / NETWORK, torch.bfloat16))
        scores = {}
        for name, sampler in tqdm(samplers.items(), desc=f"validate {folder.path.name}", unit="sampler"):
            imagined = validate.free_run(network, sampler, clips, past)
            scores[name] = validate.score(imagined, clips, past)
            scores[name] |= validate.response(network, sampler, clips, past, imagined)
            title = f"{self.world.name}, {folder.path.name}, {name.replace('_', ' ')}"
            validate.film_strip(imagined, clips, past, folder.path / f"strip_{name}.png", title)
        folder.write_scores(scores)

    def _held_out(self) -> tuple[Clip, int]:
        """The clips that every network is scored on, and how many of their frames are context."""
        past, asked = self.world.model.window, self.validation
        recording = self._recording("validation")
        longest = max(recording.longest(asked.clips), past + 2)  # all clips of one window would know no other actions
        if (frames := min(past + asked.frames, longest)) < past + asked.frames and processes.is_first():
            seen = f"scored on {frames - past} frames, not {asked.frames}"
            why = f"validation episodes have fewer than {asked.clips} stretches that are longer"
            tqdm.write(f"warning: {seen}: {why}", file=sys.stderr)
        return ClipSampler(recording, frames, asked.clips, seed=1, device=self.device).sample(), past

    def _regulariser(self) -> Consistency:
        teacher = self._load(self._result("teacher_forcing"))
        return Consistency(teacher, self.world.consistency, self.world.context)

    def _distilled(self) -> Path:
        return self._result(plan.DISTILLATIONS[self.world.distillation])

    def _released(self) -> Path:
        return self._result("dmd") if self.world.release == "dmd" else self._distilled()

    def _recording(self, split: str) -> Recording:
        if split not in self.recordings:
            folder = Path(self.world.data.folder)
            check_game(folder, read_meta(folder, self.world.game), self.game, split)
            recording = Recording.load(folder, split, progress=processes.is_first())
            if split == "train" and "outcomes" in plan.stages(self.config):
                self._check_rewards(recording)
            self.recordings[split] = recording
        return self.recordings[split]

    def _check_rewards(self, recording: Recording) -> None:
        """ValueError where there are more than the outcome head tells apart; the first stage that trains asks."""
        if (count := len(np.unique(recording.rewards))) > MOST_REWARDS:
            seen = f"{self.game.name} gave {count} different rewards"
            raise ValueError(
                f"{seen}; the head tells {MOST_REWARDS} apart: round them in the game's adapter and record it again"
            )

    def _clips(self, config: StageConfig, *, clip_frames: int = 0, **events: float) -> ClipSampler:
        length, loop_config = clip_frames or self.world.data.clip_frames, config.loop
        recording = self._recording("train")
        return ClipSampler(recording, length, loop_config.batch, loop_config.seed, device=self.device, **events)

    def _tell_missing(self, clips: ClipSampler) -> None:
        """Print a line for each share of clips around something that the recording has not."""
        for share in clips.without:
            what = {"reward_share": "rewards", "end_share": "ends of games"}[share]
            seen = f"warning: the recording has no {what} to draw clips around, so world.outcomes.{share} counts as 0"
            tqdm.write(f"{seen}: clips are drawn anywhere", file=sys.stderr)

    def _few_step(self, steps: int) -> FewStepSampler:
        sigmas = step_sigmas(steps, self.world.shift, single=self.world.single_sigma)
        return FewStepSampler(sigmas, self.world.kept_sigma)

    def _few_steps(self) -> dict[str, Sampler]:
        return {f"{steps}_step": self._few_step(steps) for steps in NOMINAL_STEPS}

    def _fresh(self) -> CausalDiT:
        torch.manual_seed(self.world.teacher_forcing.loop.seed)
        model = vars(self.world.model)
        return self._placed(CausalDiT(self.game.height, self.game.width, self.game.actions.size, **model))

    def _load(self, folder: Path, dtype: torch.dtype = torch.float32) -> CausalDiT:
        network = CausalDiT.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=False, use_safetensors=True)
        plan.check_form(network.config, folder, self.world)
        return self._placed(network)

    def _placed(self, network: CausalDiT) -> CausalDiT:
        return placement.placed(network, self.device)

    def _head(self, config: OutcomesConfig, rewards: tuple[float, ...]) -> OutcomeHead:
        """An outcome head for these rewards, fresh or from `init`. ValueError where that one is of another form."""
        if config.init is None:
            return OutcomeHead(**plan.head_form(self.world), rewards=rewards)
        plan.check_head(Path(config.init), self.world)
        head = OutcomeHead.from_pretrained(
            config.init, torch_dtype=torch.float32, low_cpu_mem_usage=False, use_safetensors=True
        )
        if new := sorted({*rewards} - {*head.config.rewards}):
            what = ", ".join(f"{reward:g}" for reward in new)
            processes.ask_first(lambda: tqdm.write(f"outcomes: rewards {what} are new to the head in {config.init}"))
        return head.with_rewards(rewards)

    def _result(self, stage: str) -> Path:
        return StageFolder(self.out / stage).network()

    def _compile(self, network: ModelMixin) -> None:
        """Change the network, where the run is to be compiled."""
        if self.config.compile:
            placement.compile_passes(network)

    def _player(self, network: CausalDiT, *, compiled: bool = False) -> CausalDiT | GraphedDiT:
        """The network as rollouts call it, without gradient; compiled where the run is, too."""
        compiled = compiled and self.config.compile and placement.has_compiler()
        moves = processes.count() > 1 and self.config.scale == "fsdp"  # graphs want weights that stay where they are
        return graphed(network, compiled=compiled) if self.config.graphs and not moves else network
