"""What the trade-off is measured on: random values, a fresh network, or a trained one. The figures come from
:mod:`resteutils.nn.indicators`, on the values and gradients that a real backward pass leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils.estimators import Estimator
from resteutils.nn.indicators import estimating_error, gradient_instability, gradient_spread, zone_shares
from resteutils.nn.layers import BinaryLinear, binary_layers
from resteutils.recipes import Recipe, recipe
from resteutils.recipes.build import build_model, open_data
from resteutils.runs.store import Run

__all__ = ["Measured", "Sample", "fresh_network", "normal_values", "trained_network"]

NORMAL_COUNT = 20_000
BATCH = 16


@dataclass(frozen=True)
class Measured:
    """Both sides of the equilibrium, as defined, and the scale-free spread std(|g|)/mean(|g|)."""

    error: float
    instability: float
    spread: float


class Sample:
    """A network with binary layers and a loss; measuring an estimator sets it everywhere and runs one backward pass.

    ``label`` says whose values these are, ``gradients`` what g is.
    """

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], Tensor], label: str, gradients: str) -> None:
        self.model, self.loss, self.gradients = model.train(), loss, gradients
        self.layers = binary_layers(model)
        if not self.layers:
            raise ValueError(f"{label} has no binary weights; choose a run with 1-bit weights")
        self.label = f"{len(self.values()):,} {label}"

    def values(self) -> Tensor:
        """The values that are binarized, all layers in one vector."""
        return torch.cat([layer.effective_weight().detach().flatten() for _, layer in self.layers])

    def shares(self, m: float, t: float) -> dict[str, float]:
        return zone_shares(self.model, m, t)

    def measure(self, e: Estimator) -> Measured:
        for _, layer in self.layers:
            layer.set_estimator(e)
        self.model.zero_grad(set_to_none=True)
        self.loss(self.model).backward()
        return Measured(estimating_error(self.model), gradient_instability(self.model), gradient_spread(self.model))


def normal_values(count: int = NORMAL_COUNT) -> Sample:
    """Standard normal latent values, always the same, under the loss sum(sign(z)): each gradient is f'(z) itself."""
    layer = BinaryLinear(1, count, binarize_input=False, scale="none")
    with torch.no_grad():
        layer.weight.copy_(torch.randn(count, 1, generator=torch.Generator().manual_seed(0)))
    one = torch.ones(1, 1)
    return Sample(layer, lambda model: model(one).sum(), "standard normal values", "g = f\u2032(z), one for each value")


def fresh_network() -> Sample:
    """ResNet-20 for digits as initialised from seed 0."""
    chosen = recipe("table1/resnet20-1w1a", profile="demo")
    return _network(build_model(chosen), chosen, "", "a fresh ResNet-20")


def trained_network(run: Run, data_dir: str = "") -> Sample:
    """The latent weights of a finished run. Raises ``FileNotFoundError`` without its model or its data."""
    return _network(run.model(), run.recipe, data_dir, "the trained run")


def _network(model: nn.Module, chosen: Recipe, data_dir: str, owner: str) -> Sample:
    images, labels = next(iter(open_data(chosen, data_dir).test_batches(BATCH)))
    gradients = f"g: gradients of all parameters on one batch of {len(labels)} images of {chosen.dataset}"
    loss = lambda network: F.cross_entropy(network(images), labels)  # noqa: E731
    return Sample(model, loss, f"binary weights of {owner}", gradients)
