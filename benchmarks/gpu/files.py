"""The section on image files: images a second that workers decode and crop, and that the GPU's own decoder does."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.session import Session
from resteutils.data.folder import open_folder

__all__ = ["image_files", "write_jpegs"]

DISTINCT = 400  # files that differ; the others are links to them
WIDTH, HEIGHT = 500, 375  # the usual size in ImageNet


def image_files(session: Session) -> dict[str, Any]:
    """Images a second, augmented and on the GPU, with 4 and 16 workers; and of torchvision's decoder on the GPU."""
    with tempfile.TemporaryDirectory() as root:
        files = write_jpegs(Path(root), 24 if session.fake else 4000, 24 if session.fake else DISTINCT)
        rows: dict[str, Any] = {"bytes a file": sum(map(os.path.getsize, files)) / len(files)}
        for workers in (1,) if session.fake else (4, 16):
            rows[f"{workers} workers, images/s"] = _rate(Path(root), workers, 8 if session.fake else 100)
        if not session.fake:
            rows["nvJPEG, images/s"] = _decoded_on_gpu(files)
    return rows


def _rate(root: Path, workers: int, batch: int) -> float:
    """After the first batch, which waits for the workers to start."""
    folder = open_folder(root, "made", workers=workers, device="cuda")
    start, count = 0.0, 0
    for pixels, _ in folder.train_batches(batch, 0, 0):
        if start:
            count += len(pixels)
        start = start or time.perf_counter()
    torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def _decoded_on_gpu(files: list[Path]) -> float:
    from torchvision.io import decode_jpeg, read_file

    data: list[Tensor] = [read_file(str(path)) for path in files]
    decode_jpeg(data[:50], device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for begin in range(0, len(data), 100):
        decode_jpeg(data[begin : begin + 100], device="cuda")
    torch.cuda.synchronize()
    return len(data) / (time.perf_counter() - start)


def write_jpegs(root: Path, train: int, distinct: int) -> list[Path]:
    """Write train/ with so many JPEG files of 500x375, in four classes, and val/ with one of each. Returns the
    distinct ones.
    """
    from torchvision.io import write_jpeg

    draw, files = torch.Generator().manual_seed(0), []
    for number in range(train):
        path = root / "train" / f"n{number % 4}" / f"{number:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= distinct:
            os.link(files[number % distinct], path)
            continue
        coarse = torch.randint(0, 256, (1, 3, 47, 63), generator=draw).float()
        image = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)
        write_jpeg(image[0].round().clamp(0, 255).to(torch.uint8), str(path), quality=95)
        files.append(path)
    for number in range(4):
        path = root / "val" / f"n{number}" / "0.JPEG"
        path.parent.mkdir(parents=True)
        os.link(files[number], path)
    return files
