"""What a binary network sees: images, the maps that enter its layers and its answers, its float twin beside it; packed
as JSON for the page.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resteutils.nn.layers import binary_layers
from resteutils.recipes.build import open_data
from resteutils.runs.store import Run

__all__ = ["Sight", "look", "sights"]

MOST_MAPS, IMAGES, LAYERS = 32, 10, 5


@dataclass(frozen=True)
class Sight:
    """What a network makes of images: the maps that enter each layer (N, C, H, W), the probabilities (N, classes)."""

    maps: list[Tensor]
    probabilities: Tensor


@torch.no_grad()
def look(model: nn.Module, layers: list[str], images: Tensor) -> Sight:
    """Run the network on images (N, C, H, W) in evaluation mode and keep what enters the layers of those names."""
    kept: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, inputs, name=name: kept.update({name: inputs[0]}))
        for name in layers
    ]
    try:
        logits = model.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    return Sight([kept[name] for name in layers], logits.softmax(1))


def sights(run: Run, twin: Run | None, data_dir: str = "") -> dict:
    """The page's JSON of a pair: the first test images, an even choice of layers, at most 32 maps of each.

    Signs take a bit a pixel, real values a byte. Raises ``FileNotFoundError`` without the run's model or its data.
    """
    data = open_data(run.recipe, data_dir)
    model = run.model()
    names = [name for name, _ in binary_layers(model)]
    chosen = [names[round(i)] for i in np.linspace(0, len(names) - 1, min(LAYERS, len(names)))]
    pixels, labels = data.test_images[:IMAGES], data.test_labels[:IMAGES]
    ready = data.normalise(pixels)
    networks = [("Binary network", run, model)] + ([("Float twin", twin, twin.model())] if twin else [])
    looks = [(label, of, look(network, chosen, ready)) for label, of, network in networks]
    first = looks[0][2].maps
    return {
        "classes": [str(name) for name in data.classes],
        "size": list(pixels.shape[-2:]),
        "images": [_image(image, int(label)) for image, label in zip(pixels, labels, strict=True)],
        "layers": [
            {
                "name": f"{names.index(name) + 1} of {len(names)}: {name}",
                "shape": [min(maps.shape[1], MOST_MAPS), *maps.shape[2:]],
            }
            for name, maps in zip(chosen, first, strict=True)
        ],
        "networks": [_network(label, of, sight) for label, of, sight in looks],
    }


def _image(image: Tensor, truth: int) -> dict[str, Any]:
    values = image.permute(1, 2, 0).contiguous().numpy()
    return {"pixels": _text(values), "truth": truth, "channels": values.shape[-1]}


def _network(label: str, run: Run, sight: Sight) -> dict[str, Any]:
    packed = run.recipe.bits == "1/1"
    return {
        "label": label,
        "about": f"top-1 {run.result['top1']:.1f} % on its test images",
        "run": run.path.name,
        "packed": packed,
        "sights": [[_maps(maps[i], packed) for maps in sight.maps] for i in range(len(sight.probabilities))],
        "answers": [[round(float(p), 4) for p in row] for row in sight.probabilities],
    }


def _maps(maps: Tensor, packed: bool) -> str:
    """Maps (C, H, W) as text: a bit for each sign, or a byte for each value, scaled from each map's range."""
    maps = maps[:MOST_MAPS]
    if packed:
        return _text(np.packbits((maps >= 0).numpy().astype(np.uint8)))
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return _text(((maps - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8).numpy())


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()
