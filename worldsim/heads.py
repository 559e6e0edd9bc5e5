"""The outcome head, which reads reward and episode end off two consecutive frames, and maybe an earlier one."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F


class OutcomeHead(ModelMixin, ConfigMixin):
    """Classifier of the transition between two frames: which of the game's reward values, and whether it ended.

    rewards: the reward values the game gives, in ascending order; the head picks one of them.
    lag: above 1 the head is also shown the frame of `lag` steps before the new one, for a game that ends so long after
    the last change that announces it, as on a clock's last second.
    """

    @register_to_config
    def __init__(
        self,
        height: int,
        width: int,
        rewards: tuple[float, ...] = (-1.0, 0.0, 1.0),
        channels: int = 3,
        width_conv: int = 32,
        lag: int = 1,
    ) -> None:
        super().__init__()
        if lag < 1:
            raise ValueError(f"lag={lag}; the nearest frame before the new one is 1 step before it")
        wide, frames = 2 * width_conv, 2 if lag == 1 else 3
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * frames * channels, width_conv, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width_conv, wide, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(wide, wide, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(wide * (height // 8) * (width // 8), 128),
            nn.SiLU(),
            nn.Linear(128, len(rewards) + 1),
        )

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, C, H, W) in [-1, 1] -> reward logits (B, R) and end logit (B,), both float32.

        before: with a lag (B, 2C, H, W), as `before_of` answers.
        """
        out = self.net(torch.cat((before, after), dim=1).to(self.net[1].weight.dtype)).float()
        return out[:, :-1], out[:, -1]

    @torch.no_grad()
    def read(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest reward value and the log-odds of the episode's end, both (B,) float32."""
        return likeliest(*self(before, after), self.config.rewards)

    def with_rewards(self, rewards: Sequence[float]) -> OutcomeHead:
        """A head that tells these reward values apart, too: this one's weights, and fresh ones for what is new."""
        known, wanted = self.config.rewards, tuple(sorted({*self.config.rewards, *rewards}))
        form = {name: value for name, value in self.config.items() if not name.startswith("_")}
        head = OutcomeHead(**form | {"rewards": wanted})
        rows = torch.tensor([*(wanted.index(reward) for reward in known), len(wanted)])  # the last row is the end's
        last = f"net.{len(self.net) - 1}."
        fresh, learnt = head.state_dict(), self.state_dict()
        grown = {key: fresh[key].index_copy(0, rows, learnt[key]) for key in learnt if key.startswith(last)}
        head.load_state_dict(learnt | grown)
        return head


def before_of(past: Tensor) -> Tensor:
    """What a head is shown beside the new frame, of the last `lag` frames (B, lag, C, H, W), oldest first: the last one
    (B, C, H, W), or with a lag above 1 the first and the last (B, 2C, H, W)."""
    return past[:, -1] if past.shape[1] == 1 else torch.cat((past[:, 0], past[:, -1]), dim=1)


def likeliest(reward_logits: Tensor, end_logit: Tensor, rewards: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The likeliest reward value (B,) float32, NaN where any logit of that world is not finite, and `end_logit`."""
    values = _values(tuple(rewards), reward_logits.device)
    sound = reward_logits.isfinite().all(dim=1) & end_logit.isfinite()
    return values[reward_logits.argmax(dim=1)].masked_fill(~sound, torch.nan), end_logit


@functools.cache
def _values(rewards: tuple[float, ...], device: torch.device) -> Tensor:
    """The reward values on the device, sent there once: sending would wait for a GPU."""
    return torch.tensor(rewards, device=device)


def outcome_loss(reward_logits: Tensor, end_logit: Tensor, rewards: Tensor, ended: Tensor, values: Tensor) -> Tensor:
    """Cross-entropy of the reward class plus binary cross-entropy of the end, each a mean over B.

    rewards: (B,), every entry one of values (R,); ended: (B,) bool.
    """
    classes = (rewards[:, None] - values[None]).abs().argmin(dim=1)
    end = F.binary_cross_entropy_with_logits(end_logit, ended.float())
    return F.cross_entropy(reward_logits, classes) + end
