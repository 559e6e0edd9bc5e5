"""Small students, teachers and clips for tests of distribution matching."""

import torch
from tiny import tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.sampler import step_sigmas
from worldsim_training import dmd
from worldsim_training.config import DmdConfig, LoopConfig
from worldsim_training.dataset import Clip

HEIGHT, WIDTH, ACTIONS = 16, 24, 4
PAST, FRAMES, WINDOW = 2, 4, 2  # two temporal layers of window 2: memory overflows
SIGMAS = step_sigmas(2, 2.0)
LOOP = LoopConfig(steps=6, batch=3, learning_rate=1e-3, warmup=1, decay=0.0, beta_1=0.0, ema=0.5, checkpoint_every=2)
CONFIG = DmdConfig(
    loop=LOOP,
    critic_learning_rate=2e-3,
    critic_per_student=2,
    context_frames=PAST,
    frames=FRAMES,
    evaluate_every=2,
)


def network(seed=0, **settings):
    small = {"height": HEIGHT, "width": WIDTH, "action_size": ACTIONS, "dim": 16, "conv_widths": (8, 8)}
    return tiny_denoiser(seed, **{**small, "window": WINDOW, **settings})


def make_clip(batch=3, length=PAST + FRAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    known = torch.ones(batch, length, dtype=torch.bool)
    return Clip(
        frames=torch.randint(256, (batch, length, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8),
        actions=torch.randint(2, (batch, length, ACTIONS), generator=generator).float(),
        known=known,
        rewards=torch.zeros(batch, length),
        ended=~known,
    )


def swapped(actions, frame):
    """The actions with the one that leads into a frame turned round."""
    actions = actions.clone()
    actions[:, frame] = 1 - actions[:, frame]
    return actions


def imagined(denoiser, exit_step=1, *, actions=None, seed=0):
    clip = make_clip()
    context = PixelCodec().encode(clip.frames[:, :PAST])
    actions = clip.actions if actions is None else actions
    return dmd.imagine(denoiser, SIGMAS, exit_step, context, actions, torch.Generator().manual_seed(seed))


def stage(config=CONFIG, *, student=0, teacher=1, **settings):
    scorer = dmd.CausalScorer(network(teacher, **settings), config.w)
    return dmd.Dmd(network(student, **settings), scorer, SIGMAS, 2.0, config)


def apart(trained):
    """The stage with its critic moved away from its teacher."""
    with torch.no_grad():
        for weight in trained.scorer.critic.parameters():
            weight.mul_(1.05)
    return trained


def slopes(denoiser, loss):
    return torch.autograd.grad(loss, list(denoiser.parameters()), allow_unused=True, materialize_grads=True)


def idle(denoiser, slopes):
    """The weights that learn nothing: of `no_action` only the detached memory of a first frame hears."""
    named = zip(denoiser.named_parameters(), slopes, strict=True)
    return [name for (name, _), slope in named if slope is None or not slope.any()]
