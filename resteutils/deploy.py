"""What a trained model is for: export it, ask it about images, time it. The functions behind ``resteutils export``,
``predict`` and ``bench --model``.
"""

from __future__ import annotations

import copy
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resteutils import packed
from resteutils.packed import PackedModel
from resteutils.settings import writable, write_atomic

__all__ = ["FORMATS", "bench_model", "export_onnx", "export_run", "find_run", "predict", "show_predictions"]

FORMATS = {"packed": ".rbit", "onnx": ".onnx", "state-dict": ".safetensors"}


def find_run(name: str, runs_dir: str = "", results_dir: str = "") -> Any:
    """The finished run of this name: its folder, its run id or the beginning of one, or ``item/row``, in whatever
    profile it is finished; items share runs, so that the record may name another item.

    Of several seeds of one row the first counts. Raises ``ValueError`` where none or several fit.
    """
    from resteutils.recipes import ITEMS, PROFILES, recipe
    from resteutils.runs import finished_runs

    runs = {run.recipe.run_id: run for run in finished_runs(runs_dir, results_dir)}
    wanted = Path(name).name if os.path.isdir(name) else name
    if wanted in runs:
        return runs[wanted]
    item, _, row = wanted.partition("/")
    rows = ITEMS[item].rows if item in ITEMS else ()
    asked = {recipe(wanted, profile).identity for profile in PROFILES} if row in rows else ()
    fitting = [run for run_id, run in runs.items() if run_id.startswith(wanted) or run.recipe.identity in asked]
    fitting = fitting or [run for run in runs.values() if run.recipe.name == wanted]
    if len({run.recipe.identity for run in fitting}) == 1:
        return min(fitting, key=lambda run: run.recipe.seed)
    if fitting:
        raise ValueError(f"{name} could be any of {', '.join(run.recipe.run_id for run in fitting)}: name one of them")
    known = ", ".join(runs) or "none is finished"
    raise ValueError(
        f"no finished run is called {name!r}; there is: {known}. Train one with `resteutils train ITEM/ROW`"
    )


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
    from resteutils.construct import open_data

    return packed.pack(model, run, data=open_data(run.recipe, data_dir)).save(target)


def export_onnx(model: nn.Module, input_size: tuple[int, int, int], path: str | os.PathLike) -> Path:
    """Write a network, binary or not, for onnxruntime: input ``images`` (N, C, H, W) float32, output ``logits``.

    ONNX has no 1-bit tensors: binary weights are stored as float32. Raises ``ModuleNotFoundError`` without the extra.
    """
    for module in ("onnx", "onnxscript"):
        try:
            __import__(module)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"ONNX export needs {module}: pip install 'resteutils[export]'", name=module
            ) from error
    network = _InTorch(packed.pack(model, input_size=input_size)) if _is_binary(model) else copy.deepcopy(model).cpu()
    network.eval()
    images = torch.zeros(2, *input_size)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        network(images)  # unpacks the signs, which the exporter then finds as constants
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            network, (images,), file, input_names=["images"], output_names=["logits"], dynamo=True, external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
        )  # fmt: skip
        return write_atomic(path, file.read_bytes())


def _is_binary(model: nn.Module) -> bool:
    from resteutils.layers import binary_layers

    return bool(binary_layers(model))


class _InTorch(nn.Module):
    """A packed network run by torch's operations, which an exporter can read."""

    def __init__(self, model: PackedModel) -> None:
        super().__init__()
        self.run = model.run_in_torch

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.run(images)


# --- predict --------------------------------------------------------------------------------------------------------


def predict(path: str | os.PathLike, images: Iterable[str | os.PathLike], top: int = 5) -> list[dict[str, Any]]:
    """What a packed model sees in image files: ``[{"image": ..., "top": [{"class": ..., "probability": ...}, ...]}]``.

    Images are resized to the model's input. Raises ``packed.PackedFileError`` for a bad model and ``ValueError`` for a
    file that is no image.
    """
    model = packed.load(path)
    files = [Path(image) for image in images]
    if not files:
        raise ValueError("no image to look at: name one or more image files")
    logits = model(model.normalise(torch.stack([_read(file, model.header["input"]) for file in files])))
    values, classes = logits.softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    names = model.header["classes"]
    return [
        {
            "image": str(file),
            "top": [{"class": names[c], "probability": round(p, 6)} for c, p in zip(cs, ps, strict=True)],
        }
        for file, cs, ps in zip(files, classes.tolist(), values.tolist(), strict=True)
    ]


def _read(file: Path, size: list[int]) -> torch.Tensor:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.array(
                image.convert("RGB" if size[0] == 3 else "L").resize((size[2], size[1]), Image.Resampling.BILINEAR)
            )
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} is not an image that Pillow can read") from error
    return torch.from_numpy(pixels.reshape(size[1], size[2], size[0])).permute(2, 0, 1)


def show_predictions(predictions: list[dict[str, Any]], as_json: bool = False, width: int = 30) -> str:
    """The predictions as text with bars, or as JSON."""
    if as_json:
        return json.dumps(predictions, indent=1)
    lines = []
    for prediction in predictions:
        lines.append(prediction["image"])
        for entry in prediction["top"]:
            bar = "█" * math.ceil(entry["probability"] * width)
            lines.append(f"  {entry['class']:<14} {100 * entry['probability']:6.2f} %  {bar}")
    return "\n".join(lines)


# --- bench ----------------------------------------------------------------------------------------------------------


def bench_model(path: str | os.PathLike, batches: tuple[int, ...] = (1, 64), repeats: int = 30) -> list[dict[str, Any]]:
    """Milliseconds of a packed file and of its float twin, taking turns: one row per batch size and number of threads.

    ``ratio`` is the median over turns of float / packed, ``low`` and ``high`` their quartiles.
    """
    from resteutils.models import MODELS, create

    model = packed.load(path)
    header = model.header
    if header["model"] not in MODELS:
        raise ValueError(f"{path} does not say which network it is ({header['model']!r}): export it from a run")
    channels, size, _ = header["input"]
    twin = create(header["model"], "32/32", num_classes=len(header["classes"]), image_size=size, in_channels=channels)
    twin.eval()
    before, rows = torch.get_num_threads(), []
    try:
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            for batch in batches:
                images = torch.randn(batch, *header["input"])
                with torch.inference_mode():
                    times = _alternate(lambda x=images: model(x), lambda x=images: twin(x), repeats)
                ratios = sorted(b / a for a, b in times)
                low, middle, high = statistics.quantiles(ratios, n=4)
                rows.append({
                    "batch": batch, "threads": threads, "packed_ms": 1e3 * statistics.median(a for a, _ in times),
                    "float_ms": 1e3 * statistics.median(b for _, b in times), "ratio": middle, "low": low, "high": high,
                    "repeats": len(times),
                })  # fmt: skip
    finally:
        torch.set_num_threads(before)
    return rows


def _alternate(first, second, repeats: int) -> list[tuple[float, float]]:
    """Seconds of two functions that take turns, after two turns to warm up."""
    times = []
    for turn in range(repeats + 2):
        start = time.perf_counter()
        first()
        middle = time.perf_counter()
        second()
        end = time.perf_counter()
        if turn >= 2:
            times.append((middle - start, end - middle))
    return times
