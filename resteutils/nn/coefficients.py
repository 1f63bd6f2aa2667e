"""The estimators' numbers as tensors, which compiled steps and CUDA graphs read where they lie.

They are written in place, so that nothing is compiled or recorded again, and for all layers at once: on a GPU by one
copy from pinned memory, for which the host does not wait, and one kernel that deals them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from resteutils.estimators import Estimator

__all__ = ["at", "fill", "writable"]


def at(progress: float) -> Callable[[Estimator], Estimator]:
    """Estimators at ``progress`` on their paths, each computed once: the layers of a network share theirs."""
    found: dict[int, Estimator] = {}

    def moved(estimator: Estimator) -> Estimator:
        if id(estimator) not in found:
            found[id(estimator)] = estimator.at(progress)
        return found[id(estimator)]

    return moved


def writable(coefficients: Tensor | None) -> bool:
    """Whether a layer has such a tensor, made outside ``torch.inference_mode``."""
    return coefficients is not None and not coefficients.is_inference()


def fill(layers: Iterable[Any]) -> None:
    """Write the numbers of these binary layers where they changed. Makes the tensors that are missing or of another
    length, dtype or device.
    """
    changed: dict[tuple, list[tuple[Tensor, tuple[float, ...]]]] = defaultdict(list)
    for layer in layers:
        held, values, place = layer.coefficients, layer._values(), (layer.weight.dtype, layer.weight.device)
        fits = writable(held) and (len(held), held.dtype, held.device) == (len(values), *place)
        if fits and layer._filled == (values, place):
            continue
        layer._filled = (values, place)
        if fits:
            changed[place].append((held, values))
        else:
            layer.coefficients = torch.tensor(values, dtype=place[0], device="cpu").to(place[1])
    for (dtype, device), pairs in changed.items():
        numbers = torch.tensor([number for _, values in pairs for number in values], dtype=dtype, device="cpu")
        if device.type == "cuda":
            numbers = numbers.pin_memory().to(device, non_blocking=True)
        torch._foreach_copy_([held for held, _ in pairs], numbers.split([len(values) for _, values in pairs]))
