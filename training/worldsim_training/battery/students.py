"""What distillation cost: a world's figures by step count beside those of its many-step teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch

from worldsim_training.battery.ledger import Figures

LOSSES = {
    "student_gain_loss_1_db": r"picture_gain_1_db",
    "student_gain_loss_16_db": r"picture_gain_16_db",
    "student_control_loss": r"control_c",
    "student_action_f1_loss": r"action_ratio",
    "student_reward_f1_loss": r"reward_f1",
}
"""Names of what is lost, teacher minus student, and the figure that is lost."""


def losses(figures: Mapping, step_choices: Sequence[int], steps: int) -> Figures:
    """`steps_{n}_{name}` for each step count, and the same as `{name}` for the one that is played; see `LOSSES`.

    figures: `teacher_{key}` and `steps_{n}_{key}`, scored on the same trials. What either lacks gives no loss.
    """
    out: Figures = {}
    for name, key in LOSSES.items():
        teacher = figures.get(f"teacher_{key}")
        for n in step_choices:
            student = figures.get(f"steps_{n}_{key}")
            if teacher is not None and student is not None:
                out[f"steps_{n}_{name}"] = teacher - student
        if (own := out.get(f"steps_{steps}_{name}")) is not None:
            out[name] = own
    return out


def weights_sha256(network: torch.nn.Module) -> str:
    """SHA-256 of a network's weights: names, shapes and bytes."""
    told = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        told.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        told.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return told.hexdigest()
