"""DIAMOND's 3-step sampler on a network of its published size, random weights, plain PyTorch.

    worldsim bench boxing --against examples/adapters/diamond.py

Sizes and sampler as the paper states them (Alonso et al., arXiv 2405.12399): a UNet of four levels with two residual
blocks of 64 channels each (one more a level on the way up), adaptive group normalisation by 256 features of the noise
level and the last four actions, attention at the lowest resolution only, four past frames as input, EDM preconditioning
and three Euler steps. Written from those sizes, not from its code; no weights are needed to know how long it takes.
"""

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS, FEATURES, LEVELS, BLOCKS, PAST = 64, 256, 4, 2, 4
SIGMA_DATA, SIGMAS = 0.5, (5.0, 0.283, 0.002, 0.0)
"""EDM's three levels from 5 to 0.002 with rho 7 (arXiv 2206.00364, eq. 5), and the end."""


class Residual(nn.Module):
    """Two convolutions after adaptively normalised, activated features; attention over all pixels where asked."""

    def __init__(self, entering, attends=False):
        super().__init__()
        self.scales = nn.ModuleList([nn.Linear(FEATURES, 2 * entering), nn.Linear(FEATURES, 2 * CHANNELS)])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(entering, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)]
        )
        self.across = nn.Conv2d(entering, CHANNELS, 1) if entering != CHANNELS else nn.Identity()
        self.qkv, self.out = (nn.Conv2d(CHANNELS, n * CHANNELS, 1) for n in (3, 1)) if attends else (None, None)

    def forward(self, x, features):
        h = x
        for scales, convolution in zip(self.scales, self.convolutions, strict=True):
            scale, shift = scales(features)[:, :, None, None].chunk(2, dim=1)
            h = convolution(F.silu(F.group_norm(h, h.shape[1] // 32) * (1 + scale) + shift))
        x = self.across(x) + h
        return x if self.qkv is None else x + self._attention(x)

    def _attention(self, x):
        normed = F.group_norm(x, x.shape[1] // 32)
        query, key, value = self.qkv(normed).flatten(2).unflatten(1, (3, 8, -1)).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(-1, -2).flatten(1, 2).view_as(x))


class UNet(nn.Module):
    """Noisy frame and four past ones (B, 15, H, W), noise level (B,), four actions (B, 4) -> (B, 3, H, W)."""

    def __init__(self, actions=18):
        super().__init__()
        self.action = nn.Embedding(actions, FEATURES // PAST)
        self.condition = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.SiLU(), nn.Linear(FEATURES, FEATURES))
        self.enter = nn.Conv2d(3 * (PAST + 1), CHANNELS, 3, padding=1)
        self.down = nn.ModuleList(nn.ModuleList(Residual(CHANNELS) for _ in range(BLOCKS)) for _ in range(LEVELS))
        self.middle = nn.ModuleList(Residual(CHANNELS, attends=True) for _ in range(2))
        self.up = nn.ModuleList(nn.ModuleList(Residual(2 * CHANNELS) for _ in range(BLOCKS + 1)) for _ in range(LEVELS))
        self.halving, self.doubling = (
            nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, stride=stride, padding=1) for _ in range(LEVELS - 1))
            for stride in (2, 1)
        )
        self.leave = nn.Conv2d(CHANNELS, 3, 3, padding=1)
        self.register_buffer("frequencies", torch.randn(FEATURES // 2))

    def forward(self, x, noise, actions):
        angle = 2 * torch.pi * noise[:, None] * self.frequencies
        features = self.condition(torch.cat((angle.cos(), angle.sin()), dim=1) + self.action(actions).flatten(1))
        x = self.enter(x)
        skips = []
        for level, blocks in enumerate(self.down):
            x = self.halving[level - 1](x) if level else x
            skips.append(x)
            for block in blocks:
                x = block(x, features)
                skips.append(x)
        for block in self.middle:
            x = block(x, features)
        for level, blocks in enumerate(self.up):
            x = self.doubling[level - 1](F.interpolate(x, scale_factor=2.0)) if level else x
            for block in blocks:
                x = block(torch.cat((x, skips.pop()), dim=1), features)
        return self.leave(F.silu(F.group_norm(x, x.shape[1] // 32)))


def denoised(network, x, sigma, past, actions):
    """EDM's preconditioning (arXiv 2206.00364, table 1)."""
    total = sigma**2 + SIGMA_DATA**2
    level = x.new_full((len(x),), sigma).log() / 4
    answer = network(torch.cat((past / SIGMA_DATA, x / total**0.5), dim=1), level, actions)
    return x * SIGMA_DATA**2 / total + answer * sigma * SIGMA_DATA / total**0.5


def make(height, width, device):
    """The adapter: a step that samples the next frame in three calls and remembers it."""
    network = UNet().to(device).eval()
    past = torch.zeros(1, 3 * PAST, height, width, device=device)
    actions = torch.zeros(1, PAST, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def step(action):
        nonlocal past, actions
        actions = torch.cat((actions[:, 1:], actions.new_full((1, 1), action)), dim=1)
        x = SIGMAS[0] * torch.randn(1, 3, height, width, device=device)
        for sigma, after in zip(SIGMAS[:-1], SIGMAS[1:], strict=True):
            clean = denoised(network, x, sigma, past, actions)
            x = clean + after / sigma * (x - clean)
        past = torch.cat((past[:, 3:], x), dim=1)
        return ((x[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    return step
