"""A ReLU with a derivative of its own at exactly 0, apart from :mod:`resteutils.models.gates`, which every import of
the package reads: ``torch.compiler.disable`` imports the whole compiler, which takes as long as torch itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ZeroGate"]


class ZeroGate(nn.Module):
    """ReLU, any shape, whose derivative at exactly 0 is ``share``; or, ``random``, 1 for that share of the zeros and 0
    for the others, drawn anew in each training step from the number of the step.
    """

    def __init__(self, share: float, random: bool, index: int = 0) -> None:
        super().__init__()
        self.share, self.random, self.index = share, random, index
        if random:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # saved: a resumed run draws the same

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return torch.relu(x)
        gate = self._drawn(x) if self.random else self.share
        return torch.relu(x) + torch.where(x == 0, x * gate, 0)  # the second term is 0 and has the derivative

    @torch.compiler.disable
    def _drawn(self, x: Tensor) -> Tensor:
        self.steps += 1
        dice = torch.Generator(device=x.device).manual_seed(1000 * int(self.steps) + self.index)
        return (torch.rand(x.shape, generator=dice, device=x.device, dtype=torch.float32) < self.share).to(x.dtype)
