"""What only GPUs need: the names of what decides their rounding, and a check that convolutions of signs are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resteutils.nn.exact import integral
from resteutils.nn.layers import BinaryConv2d, binary_layers
from resteutils.recipes import Recipe
from resteutils.training.processes import parts_of_batch

__all__ = ["ALGORITHMS", "batch_sizes", "gpu_environment", "settle_signs", "sign_convolutions"]

ALGORITHMS = ("cudnn", "cudnn, deterministic", "without cudnn")  # in the order in which they are tried


def gpu_environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Name what else decides the rounding on a GPU: its kind, the libraries' versions, the driver's and TF32."""
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "tf32": precision != "fp32",
    }


def _driver() -> str:
    """The NVIDIA driver's version as its kernel module tells it; "" where it does not."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split("Kernel Module")[1].split()
    except (OSError, IndexError):
        return ""
    return next((word for word in words if word[0].isdigit()), "")


def batch_sizes(recipe: Recipe, train: int, test: int, world: int) -> set[int]:
    """How many images a process computes at once in a run on ``train`` and ``test`` images: whole batches and the odd
    last one, in their parts, and those of evaluation. Libraries choose an algorithm for each.
    """
    sizes: set[int] = set()
    for whole in (min(recipe.batch_size, train), train % recipe.batch_size):
        parts = parts_of_batch(whole, recipe.accumulate, world)
        sizes |= {share // parts + extra for share in (whole // world, -(-whole // world))
                  for extra in ({0, 1} if share % parts else {0})}  # fmt: skip
    for share in (test // world, -(-test // world)):
        sizes |= {min(recipe.eval_batch_size, share), share % recipe.eval_batch_size}
    return sizes - {0}


def settle_signs(
    model: nn.Module, sizes: Iterable[int], image: tuple[int, ...], layout: torch.memory_format, say: Callable
) -> str:
    """Choose, for the rest of :func:`resteutils.training.switches.numerics`, the first of :data:`ALGORITHMS` that
    convolves signs to integers in every 1/1 layer of ``model`` for batches of these ``sizes``, of images of the shape
    ``image``. Return its name.

    Raises ``RuntimeError`` where none does.
    """
    device = next(model.parameters()).device
    layers = [call for size in sorted(sizes) for call in sign_convolutions(model, (size, *image))]
    for name in ALGORITHMS:
        _take(name)
        bad = [call for call in layers if not integral(*call, device, layout)]
        if not bad:
            return name
        say(f"convolutions of signs by {name} are no integers in {len(bad)} of {len(layers)} shapes; trying another")
    raise RuntimeError(
        f"no algorithm on {device} convolves signs to integers, for instance of the shape {bad[0][0]}; "
        "use another GPU or other versions of CUDA and cuDNN, or device=cpu"
    )


def _take(name: str) -> None:
    """Set torch's switches. cuDNN remembers the algorithm it found for a shape, but one for each of these."""
    cudnn = torch.backends.cudnn
    cudnn.deterministic = name == "cudnn, deterministic" or torch.are_deterministic_algorithms_enabled()
    cudnn.enabled = name != "without cudnn"  # without: products of matrices, which transform nothing


def sign_convolutions(model: nn.Module, images: tuple[int, ...]) -> list[tuple]:
    """The distinct convolutions of signs that ``model`` makes of inputs of the shape ``images``: shapes of input and
    kernel, stride, padding, dilation and groups. Leaves the network as it was.
    """
    found: dict[tuple, None] = {}

    def note(layer: BinaryConv2d, inputs: tuple) -> None:
        size = (tuple(inputs[0].shape), tuple(layer.weight.shape))
        found[(*size, layer.stride, layer.padding, layer.dilation, layer.groups)] = None

    training = model.training
    hooks = [layer.register_forward_pre_hook(note) for layer in _of_signs(model)]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(images, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return list(found)


def _of_signs(model: nn.Module) -> Iterator[BinaryConv2d]:
    for _, layer in binary_layers(model):
        exact = layer.binarize_input and getattr(layer, "scale_order", "") == "after"
        if exact and isinstance(layer, BinaryConv2d):
            yield layer
