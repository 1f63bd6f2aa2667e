"""What a trained model is for: export it, ask it about images, time it. The functions behind ``resteutils export``,
``predict`` and ``bench --model``.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resteutils.data.reading import UnreadableImage, opened
from resteutils.data.sources import DATASETS
from resteutils.models import MODELS, create
from resteutils.nn.layers import binary_layers
from resteutils.onebit import model as packed
from resteutils.onebit.model import PackedModel
from resteutils.onebit.timing import race
from resteutils.recipes.build import open_data
from resteutils.system.defaults import torch_defaults
from resteutils.system.files import writable, write_atomic

__all__ = [
    "FORMATS",
    "bench_model",
    "beside_float",
    "export_onnx",
    "export_run",
    "predict",
    "show_predictions",
]

FORMATS = {"packed": ".rbit", "onnx": ".onnx", "state-dict": ".safetensors"}
WIDTH = 30  # of a bar, in characters


@torch_defaults()
def export_run(run: Any, to: str = "packed", path: str | os.PathLike = "", data_dir: str = "") -> Path:
    """Write a finished run's model as "packed", "onnx" or "state-dict"; return the file.

    ``path`` is ``<run_id>`` with the format's suffix in the working directory when empty. Raises ``ValueError`` for
    another format and for packing a float twin, ``FileNotFoundError`` where the run has no weights on this disk.
    """
    if to not in FORMATS:
        raise ValueError(f"to = {to!r}, expected one of {', '.join(FORMATS)}")
    target = Path(path) if path else Path(f"{run.recipe.run_id}{FORMATS[to]}")
    writable(target.absolute().parent, "--out")
    model = run.model()
    if to == "state-dict":
        return write_atomic(target, run.model_file.read_bytes())
    if to == "onnx":
        recipe = run.recipe
        return export_onnx(model, (recipe.in_channels, recipe.image_size, recipe.image_size), target)
    return packed.pack(model, run, data=open_data(run.recipe, data_dir)).save(target)


@torch_defaults()
def export_onnx(model: nn.Module, input_size: tuple[int, int, int], path: str | os.PathLike) -> Path:
    """Write a network, binary or not, for onnxruntime: input ``images`` (N, C, H, W) float32, output ``logits``.

    ONNX has no 1-bit tensors: binary weights are stored as float32. Raises ``ModuleNotFoundError`` without the extra.
    """
    for module in ("onnx", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"ONNX export needs {module}: pip install 'resteutils[export]'", name=module)
    network = packed.pack(model, input_size=input_size) if binary_layers(model) else copy.deepcopy(model).cpu()
    network.eval()
    images = torch.zeros(2, *input_size)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            network, (images,), file, input_names=["images"], output_names=["logits"], dynamo=True, external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
        )  # fmt: skip
        return write_atomic(path, file.read_bytes())


# --- predict --------------------------------------------------------------------------------------------------------


@torch_defaults()
def predict(path: str | os.PathLike, images: Iterable[str | os.PathLike], top: int = 5) -> list[dict[str, Any]]:
    """What a packed model sees in image files: ``[{"image": ..., "top": [{"class": ..., "probability": ...}, ...]}]``.

    Images are seen whole, resized to the model's input; by networks that learned from a folder of images (ImageNet) as
    they were scored, brought to size and cropped in the middle. They are read by the rules of
    :mod:`resteutils.data.reading`: upright, transparent parts middle grey. Raises ``packed.PackedFileError`` for a bad
    model and ``ValueError`` for a file that is no image, or one too large.
    """
    model = packed.load(path)
    files = [Path(image) for image in images]
    if not files:
        raise ValueError("no image to look at: name one or more image files")
    logits = model(model.normalise(torch.stack([_read(file, model.header) for file in files])))
    values, classes = logits.softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    names = model.header["classes"]
    return [
        {
            "image": str(file),
            "top": [{"class": names[c], "probability": round(p, 6)} for c, p in zip(cs, ps, strict=True)],
        }
        for file, cs, ps in zip(files, classes.tolist(), values.tolist(), strict=True)
    ]


def _read(file: Path, header: dict[str, Any]) -> torch.Tensor:
    """The image as uint8 of the shape ``header["input"]``, (C, H, W)."""
    from PIL import Image

    from resteutils.data.folder import central_crop

    channels, height, width = header["input"]
    try:
        image = opened(file, "RGB" if channels == 3 else "L")
    except UnreadableImage as error:
        raise ValueError(str(error)) from error
    cropped = getattr(DATASETS.get(header["dataset"]), "streamed", False)
    if not cropped:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image).reshape(image.height, image.width, channels)).permute(2, 0, 1)
    return central_crop(height)(pixels) if cropped else pixels


def show_predictions(predictions: list[dict[str, Any]], as_json: bool = False, block: str = "█") -> str:
    """The predictions as text with bars of ``block``, or as JSON."""
    if as_json:
        return json.dumps(predictions, indent=1)
    lines = []
    for prediction in predictions:
        lines.append(prediction["image"])
        for entry in prediction["top"]:
            bar = block * math.ceil(entry["probability"] * WIDTH)
            lines.append(f"  {entry['class']:<14} {100 * entry['probability']:6.2f} %  {bar}")
    return "\n".join(lines)


# --- bench ----------------------------------------------------------------------------------------------------------


def bench_model(path: str | os.PathLike, batches: tuple[int, ...] = (1, 64), repeats: int = 30) -> list[dict[str, Any]]:
    """A packed file beside its float twin, one row per number of threads and batch size: ``threads``, ``batch`` and
    what :func:`beside_float` measures.

    Raises ``packed.PackedFileError`` for a bad file and ``ValueError`` for one that does not come from a run.
    """
    model = packed.load(path)
    header = model.header
    if header["model"] not in MODELS:
        raise ValueError(f"{path} does not say which network it is ({header['model']!r}): export it from a run")
    channels, size, _ = header["input"]
    twin = create(header["model"], "32/32", num_classes=len(header["classes"]), image_size=size, in_channels=channels)
    before, rows = torch.get_num_threads(), []
    try:
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            rows += [{"threads": threads, "batch": n, **beside_float(model, twin, n, repeats)} for n in batches]
    finally:
        torch.set_num_threads(before)
    return rows


def beside_float(
    model: PackedModel, twin: nn.Module, batch: int, repeats: int, budget: float = 0.0
) -> dict[str, float]:
    """A packed network beside its float twin in the better of torch's two memory formats, on ``batch`` random images:
    what :func:`resteutils.onebit.timing.race` returns.
    """
    first, last = torch.contiguous_format, torch.channels_last
    twin_first, twin_last = (copy.deepcopy(twin).eval().to(memory_format=layout) for layout in (first, last))
    x = torch.randn(batch, *model.header["input"])
    x_last = x.to(memory_format=last)
    return race(lambda: model(x), (lambda: twin_first(x), lambda: twin_last(x_last)), repeats, budget)
