"""What both ways of distillation begin with."""

from __future__ import annotations

from worldsim.codec import PixelCodec
from worldsim.models.dit import CausalDiT
from worldsim_training.config import ContextConfig
from worldsim_training.loop import average_of


class Distillation:
    """A frozen teacher, stage 1's network, and the student and its moving average, which start as its copies."""

    def __init__(self, teacher: CausalDiT, context: ContextConfig) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.average = average_of(teacher)
        self.student = average_of(teacher).train().requires_grad_(True)
        self.context = context
        self.codec = PixelCodec()
