"""Stage 3, asymmetric distribution matching: the student learns on its own rollouts, between a teacher and a critic."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from worldsim.codec import PixelCodec
from worldsim.engine import GraphedDiT
from worldsim.models.dit import CausalDiT, DetachedAttention, PackedAttention
from worldsim.rollout import remember, rollout
from worldsim.sampler import Denoise, FewStepSampler, Noise, add_noise, shifted
from worldsim_training import draws, loop, processes, validate
from worldsim_training.config import DmdConfig, LoopConfig
from worldsim_training.consistency import Consistency
from worldsim_training.context import Conditions
from worldsim_training.dataset import Clip, ClipSampler
from worldsim_training.loop import Best, Rival, average_of
from worldsim_training.losses import (
    clean_weight,
    frame_error,
    guided,
    matching_gradient,
    matching_loss,
    weighted_mean,
)


@dataclass(frozen=True)
class Rollout:
    """What a student imagined after real frames, without gradient; L = context + T frames of B clips.

    frames:     (B, L, C, H, W) in [-1, 1], the real context and then the T imagined frames
    exit_input: (B, T, C, H, W) what the network was handed at the last call for each imagined frame
    exit_sigma: the noise level of those calls
    actions:    (B, L, A), the action that led into each frame
    """

    frames: Tensor
    exit_input: Tensor
    exit_sigma: float
    actions: Tensor

    @property
    def context(self) -> int:
        """Number of real frames in front."""
        return self.frames.shape[1] - self.exit_input.shape[1]

    def conditions(self, *, known: bool = True) -> Conditions:
        """The rollout as its own clean memory; the first frame's action is never known, the others' as asked."""
        length = self.frames.shape[:2]
        mask = torch.full(length, known, dtype=torch.bool, device=self.frames.device)
        mask[:, 0] = False
        return Conditions(self.frames, self.frames.new_zeros(length), self.actions, mask)


class ExitSampler:
    """A few-step sampler that stops at `exit_step` and keeps what the network was handed there, frame after frame."""

    def __init__(self, sigmas: Sequence[float], exit_step: int) -> None:
        self.sampler = FewStepSampler(sigmas[: exit_step + 1])
        self.inputs: list[Tensor] = []

    def __call__(self, denoise: Denoise, noise: Noise) -> Tensor:
        def watched(x_t: Tensor, sigma: float) -> Tensor:
            self.handed = x_t
            return denoise(x_t, sigma)

        x_0 = self.sampler(watched, noise)
        self.inputs.append(self.handed)
        return x_0


@torch.no_grad()
def imagine(
    network: CausalDiT | GraphedDiT,
    sigmas: Sequence[float],
    exit_step: int,
    context: Tensor,
    actions: Tensor,
    generator: torch.Generator,
) -> Rollout:
    """Play on from real frames (B, K, C, H, W) under actions (B, K + T, A), every frame left at its `exit_step`."""
    past, (batch, *frame) = context.shape[1], context[:, 0].shape
    sampler = ExitSampler(sigmas, exit_step)
    cache = network.new_cache(batch)
    remember(network, cache, context, actions[:, 1:past])
    imagined = rollout(
        network,
        sampler,
        cache,
        actions[:, past:],
        lambda: draws.normal((batch, *frame), generator),
    )
    # Before torch 2.11 autocast keeps the weights that it cast here, and they carry no gradient (PyTorch 112583).
    torch.clear_autocast_cache()
    exit_input = torch.stack(sampler.inputs, dim=1)
    return Rollout(torch.cat((context, imagined), dim=1), exit_input, sampler.sampler.sigmas[-1], actions)


ATTENTION: dict[str, type[PackedAttention]] = {"plain": DetachedAttention, "self_gradient": PackedAttention}
"""How gradient flows in the replay of a rollout: `plain`, into the call that painted each frame alone, as in Self
Forcing; `self_gradient`, also into how the frames before were written to memory (arXiv 2607.20368)."""


def replay(network: CausalDiT, run: Rollout, attention: type[PackedAttention]) -> Tensor:
    """The imagined frames (B, T, C, H, W) again, with gradient: every frame's exit call at once, in one packed pass.

    The clamp of play lets the gradient through, so that a pixel that left the range can come back.
    """
    past = run.context
    noisy = torch.cat((run.frames[:, :past], run.exit_input), dim=1)
    sigma = torch.full(noisy.shape[:2], run.exit_sigma, device=noisy.device)
    given = run.conditions()
    words = (given.context, given.context_sigma, given.actions, given.known)
    answer = network.packed(noisy, sigma, *words, attention)[:, past:]
    return answer + (answer.clamp(-1.0, 1.0) - answer).detach()


class Scorer(Protocol):
    """A teacher and a critic: the clean frames that real, and that imagined, clips are expected to have behind noise.

    Both answer (B, L, C, H, W) for `noisy`, the rollout's frames at noise level sigma (B,), one per clip.
    """

    critic: nn.Module
    """Trained on what the student imagines."""
    networks: Sequence[CausalDiT]
    """All networks that it asks."""

    def teacher_x_0(self, noisy: Tensor, sigma: Tensor, run: Rollout) -> Tensor: ...

    def critic_x_0(self, noisy: Tensor, sigma: Tensor, run: Rollout) -> Tensor: ...


class TwinScorer(ABC):
    """A frozen teacher, guided, and a critic that starts as its copy, never guided; subclasses say what both see."""

    def __init__(self, teacher: CausalDiT, w: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.critic = average_of(teacher).train().requires_grad_(True)
        self.networks = (self.teacher, self.critic)
        self.w = w

    def teacher_x_0(self, noisy: Tensor, sigma: Tensor, run: Rollout) -> Tensor:
        """Under guidance towards the actions; without any where w = 1."""
        conditional = self._ask(self.teacher, noisy, sigma, run, run.conditions())
        if self.w == 1.0:
            return conditional
        return guided(conditional, self._ask(self.teacher, noisy, sigma, run, run.conditions(known=False)), self.w)

    def critic_x_0(self, noisy: Tensor, sigma: Tensor, run: Rollout) -> Tensor:
        """Never guided."""
        return self._ask(self.critic, noisy, sigma, run, run.conditions())

    @staticmethod
    @abstractmethod
    def _ask(network: CausalDiT, noisy: Tensor, sigma: Tensor, run: Rollout, given: Conditions) -> Tensor:
        """Clean frames (B, L, C, H, W) behind noisy ones at level sigma (B,)."""


class CausalScorer(TwinScorer):
    """Scores that see no later frame and no later action (arXiv 2608.13391), from stage 1's network."""

    @staticmethod
    def _ask(network: CausalDiT, noisy: Tensor, sigma: Tensor, run: Rollout, given: Conditions) -> Tensor:
        return given.predict(network, noisy, sigma[:, None].expand(noisy.shape[:2]).contiguous())


class BidirectionalScorer(TwinScorer):
    """Scores of whole clips, later frames and later actions included (arXiv 2506.08009), from stage 0's network.

    It sees the real frames in front of a rollout clean, as the causal one does: noised like the rest they would leave
    it to guess, at high noise, which scene this is.
    """

    @staticmethod
    def _ask(network: CausalDiT, noisy: Tensor, sigma: Tensor, run: Rollout, given: Conditions) -> Tensor:
        seen = torch.cat((run.frames[:, : run.context], noisy[:, run.context :]), dim=1)
        levels = sigma[:, None].repeat(1, noisy.shape[1])
        levels[:, : run.context] = 0.0
        return network.bidirectional(seen, levels, given.actions, given.known)


SCORERS = {"causal": CausalScorer, "bidirectional": BidirectionalScorer}
TEACHERS = {"causal": "teacher_forcing", "bidirectional": "bidirectional"}
"""The stage whose network each kind of scorer starts from."""


class Dmd:
    """Distribution matching on self rollouts (stage 3 of arXiv 2605.15141 and 2506.08009), from stage 2's network."""

    name = "dmd"

    def __init__(
        self,
        network: CausalDiT,
        scorer: Scorer,
        sigmas: Sequence[float],
        shift: float,
        config: DmdConfig,
        regulariser: Consistency | None = None,
    ) -> None:
        self.student = network.train().requires_grad_(True)
        self.player: CausalDiT | GraphedDiT = network
        """The student as its rollouts call it, without gradient."""
        self.average = average_of(network)
        self.scorer = scorer
        self.sigmas, self.shift, self.config = sigmas, shift, config
        self.regulariser = regulariser
        self.best: Best | None = None
        self.codec = PixelCodec()
        self.rival = Rival(scorer.critic, self.critic_loss, config.critic_learning_rate, config.critic_per_student)
        if regulariser:
            regulariser.student, regulariser.average = self.student, self.average

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        """The student's: nudge its rollouts from where the critic expects them to where the teacher does."""
        run = self._imagine(clip, generator)
        x = replay(self.student, run, ATTENTION[self.config.replay])
        noisy, sigma = self._noised(run, generator)
        with torch.no_grad():
            critic_x_0 = self.scorer.critic_x_0(noisy, sigma, run)[:, run.context :]
            teacher_x_0 = self.scorer.teacher_x_0(noisy, sigma, run)[:, run.context :]
        loss = matching_loss(x, matching_gradient(x, critic_x_0, teacher_x_0))
        if self.config.paired_weight:
            real = self.codec.encode(clip.frames)[:, run.context :]
            loss = loss + self.config.paired_weight * frame_error(x, real)[self._swapped(clip) :].mean()
        if self.regulariser:
            loss = loss + self.config.consistency_weight * self.regulariser.loss(clip, generator)
        return loss

    def critic_loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        """The critic's: denoise what the student of now imagines, weighted as in teacher forcing."""
        run = self._imagine(clip, generator)
        noisy, sigma = self._noised(run, generator)
        error = frame_error(self.scorer.critic_x_0(noisy, sigma, run), run.frames)[:, run.context :]
        return weighted_mean(error, clean_weight(sigma, self.config.weight_floor)[:, None].expand_as(error))

    def _imagine(self, clip: Clip, generator: torch.Generator) -> Rollout:
        past, swapped = self.config.context_frames, self._swapped(clip)
        other = processes.rows(processes.whole(clip.actions).roll(1, dims=0))[:swapped, past:]
        actions = clip.actions.clone()
        actions[:swapped, past:] = other
        # One wait for the device a rollout; the loop waits at every update anyway.
        exit_step = int(torch.randint(len(self.sigmas), (), device=actions.device, generator=generator))
        context = self.codec.encode(clip.frames[:, :past])
        return imagine(self.player, self.sigmas, exit_step, context, actions, generator)

    def _swapped(self, clip: Clip) -> int:
        """How many clips, the first of the batch, are imagined under another clip's actions."""
        return processes.first_clips(
            self.config.other_actions_share, len(clip.actions), "world.dmd.other_actions_share"
        )

    def _noised(self, run: Rollout, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The rollout with fresh noise (B, L, C, H, W), at one level (B,) for all frames of a clip."""
        low, high = self.config.sigma_range
        u = draws.uniform(run.frames.shape[:1], generator)
        sigma = shifted(low + (high - low) * u, self.shift)
        eps = draws.normal(run.frames.shape, generator)
        return add_noise(run.frames, eps, sigma), sigma


class PlayedScore:
    """Scores of a network's free-running play on held-out clips, in the precision in which it will be played.

    `score`, the higher the better, is the mean gain in dB over all horizons, less how far, in dB too, motion and
    sharpness are from those of real frames. Gain alone would choose blur. Make it before the network is compiled.
    """

    def __init__(self, network: CausalDiT, sampler: FewStepSampler, clips: Clip, context_frames: int) -> None:
        self.network = nn.Module.to(average_of(network), torch.bfloat16)  # diffusers' own would warn of nothing
        self.player: CausalDiT | GraphedDiT = self.network
        self.sampler, self.clips, self.context_frames = sampler, clips, context_frames

    def __call__(self, network: nn.Module) -> dict[str, float]:
        self.network.load_state_dict(network.state_dict())
        imagined = validate.free_run(self.player, self.sampler, self.clips, self.context_frames)
        scores = validate.score(imagined, self.clips, self.context_frames)
        gains = [value for name, value in scores.items() if name.startswith("gain_")]
        ratios = [max(scores[f"{what}_ratio"], 1e-3) for what in ("motion", "sharpness")]
        return {"score": sum(gains) / len(gains) - sum(abs(10 * math.log10(ratio)) for ratio in ratios), **scores}


def fit(
    stage: Dmd,
    clips: ClipSampler,
    config: LoopConfig,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    stop_after_s: float = 0.0,
    scale: str = "ddp",
) -> bool:
    """`loop.fit` of the student and its critic; once it is done, the stage's average is the best that it was."""
    best = stage.best
    limits = {"stop_after_s": stop_after_s, "scale": scale}
    done = loop.fit(stage, clips, config, folder, settings=settings, **limits, rival=stage.rival, best=best)
    if done and best:
        stage.average.load_state_dict(best.network.state_dict())
    return done


def check(config: DmdConfig) -> None:
    """ValueError where a setting is not one that the stage can train with."""
    for key, known in (("scoring", SCORERS), ("replay", ATTENTION)):
        if (seen := getattr(config, key)) not in known:
            raise ValueError(f"world.dmd.{key} is {seen!r}; use one of {', '.join(known)}")
    if config.patience < 0:
        raise ValueError(f"world.dmd.patience is {config.patience}; use at least 1, or 0 to never stop early")
    for key in ("context_frames", "frames", "critic_per_student", "evaluate_every"):
        if getattr(config, key) < 1:
            raise ValueError(f"world.dmd.{key} is {getattr(config, key)}; use at least 1")
    low, high = config.sigma_range
    if not 0 < low <= high <= 1:
        raise ValueError(f"world.dmd.sigma_range is {low} to {high}; use levels above 0, up to 1")
    share = config.other_actions_share
    if not 0 <= share <= 1:
        raise ValueError(f"world.dmd.other_actions_share is {share}; a share is between 0 and 1")
    clips = config.loop.batch // config.loop.accumulate
    if config.paired_weight and round(share * clips) == clips:
        seen = f"other_actions_share is {share}, so no clip has its own actions"
        raise ValueError(f"world.dmd.{seen}; lower it, or set paired_weight to 0")
