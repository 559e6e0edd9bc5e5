"""A policy that chooses from the last frames: its network, its folder, and how it plays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldsim.action import ActionSpec

SCHEMA = 1
CONFIG, WEIGHTS = "policy.json", "policy.safetensors"


@dataclass(frozen=True)
class PolicyConfig:
    """The sizes of a policy's network."""

    height: int
    width: int
    actions: int
    """Number of actions that it chooses among."""
    stack: int = 4
    """Frames it sees at once."""
    dim: int = 512
    choices: tuple[tuple[float, ...], ...] = ()
    """The vector that each action stands for, in a game whose own action is one; empty where it is a number."""

    def natives(self, chosen: np.ndarray) -> np.ndarray:
        """The source game's own actions, (B,) int64 or (B, A) float32, for the numbers (B,) that were chosen."""
        return np.array(self.choices, np.float32)[chosen] if self.choices else chosen


class PixelPolicy(nn.Module):
    """The convolutions of Mnih et al. 2015 with a head for the action and one for the value, as PPO trains them."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        convolutions = [
            *(nn.Conv2d(3 * config.stack, 32, 8, stride=4, padding=2), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, stride=1, padding=1), nn.ReLU(), nn.Flatten()),
        ]
        cells = ((config.height // 4) // 2) * ((config.width // 4) // 2)
        self.trunk = nn.Sequential(*convolutions, nn.Linear(64 * cells, config.dim), nn.ReLU())
        self.action, self.value = nn.Linear(config.dim, config.actions), nn.Linear(config.dim, 1)
        self._initialise()

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, actions) and values (B,) of stacked frames (B, stack * 3, H, W) uint8, the newest last."""
        features = self.trunk(seen.float() / 255.0)
        return self.action(features), self.value(features).squeeze(1)

    def save_pretrained(self, path: str | Path, facts: dict[str, Any] | None = None) -> None:
        """Write a folder: policy.safetensors, and policy.json with the sizes and `facts` about its training."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        told = {"schema": SCHEMA, "config": asdict(self.config), "facts": facts or {}}
        (folder / CONFIG).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str | torch.device = "cpu") -> PixelPolicy:
        """The policy of a folder that `save_pretrained` wrote; FileNotFoundError or ValueError in one line else."""
        folder = Path(path)
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"'{folder}' is no policy: it has no {CONFIG}; examples/ppo_boxing.py writes one")
        try:
            told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if told["schema"] != SCHEMA:
                raise ValueError(f"schema {told['schema']!r}, this worldsim reads {SCHEMA}")
            choices = tuple(map(tuple, told["config"].get("choices", ())))
            policy = cls(PolicyConfig(**{**told["config"], "choices": choices}))
            policy.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"policy '{folder}' is damaged ({reason}); save it again") from None
        return policy.to(device).eval().requires_grad_(False)

    def _initialise(self) -> None:
        """Orthogonal weights, the action's small: a policy begins near to even odds (Andrychowicz et al. 2021)."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.zeros_(layer.bias)
        nn.init.orthogonal_(self.action.weight, 0.01)
        nn.init.orthogonal_(self.value.weight, 1.0)


def policy_hash(folder: str | Path) -> str:
    """SHA-256 of the weights of a policy's folder, which tells what learnt there from what learnt there later."""
    return hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest()


def check_policy(policy: PixelPolicy, shape: tuple[int, ...], actions: ActionSpec, path: str | Path) -> None:
    """ValueError in one line unless the policy is of a game with frames of that shape (H, W, 3) and those actions."""
    config, (height, width) = policy.config, shape[:2]
    here = f"vectors of {actions.size}" if actions.table is None else f"{len(actions.table)} actions"
    its = f"vectors of {len(config.choices[0])}" if config.choices else f"{config.actions} actions"
    if (config.height, config.width, its) != (height, width, here):
        seen = f"{config.height}x{config.width} frames and {its}"
        raise ValueError(f"policy '{path}' is of a game with {seen}; here are {height}x{width} and {here}")


class PolicyPlayer:
    """A policy that plays B games side by side, remembering the last frames of each.

    rng:  decides the actions, which are drawn from the policy's odds.
    past: (B, K, H, W, 3) uint8, the frames before the present one, oldest first. Where there are fewer than the policy
          sees, the first frame of all stands for those before it.
    """

    def __init__(self, policy: PixelPolicy, rng: np.random.Generator, past: np.ndarray | None = None) -> None:
        self.policy, self.rng = policy, rng
        self._seen = past

    def reset(self) -> None:
        """Forget the frames of all games: the next ones are their first."""
        self._seen = None

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Native actions, (B,) int64 or (B, A) float32, for the present frames (B, H, W, 3) uint8."""
        self._remember(frames)
        stacked = torch.from_numpy(self._seen).permute(0, 1, 4, 2, 3).flatten(1, 2)
        logits = self.policy(stacked.to(self.policy.value.weight.device))[0].double().cpu().numpy()
        return self.policy.config.natives((logits + self.rng.gumbel(size=logits.shape)).argmax(axis=1))

    def _remember(self, frames: np.ndarray) -> None:
        config = self.policy.config
        right = (config.height, config.width, 3)
        if frames.shape[1:] != right:
            raise ValueError(f"frames are {frames.shape[1:]}; this policy was trained on {right}")
        seen = frames[:, None] if self._seen is None else np.concatenate([self._seen, frames[:, None]], axis=1)
        missing = max(0, config.stack - seen.shape[1])
        self._seen = np.concatenate([seen[:, :1].repeat(missing, axis=1), seen[:, -config.stack :]], axis=1)
