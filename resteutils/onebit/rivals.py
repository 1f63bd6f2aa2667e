"""What a user would run instead of packed bits: INT8 in onnxruntime and OpenVINO, float32 in onnxruntime.

They run the float twin with BatchNorm before ReLU, so that every runtime can fold it into the convolution: as much
arithmetic, and less to do than in the twin's own order. INT8 is static and per output channel. onnxruntime is the extra
``export``, OpenVINO with NNCF the extra ``bench``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from resteutils.models import create
from resteutils.onebit.export import export_onnx

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Rival", "calibrated", "folded_twin", "in_onnxruntime", "lead", "rivals"]

SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Rival:
    """A runtime with a network in it: bytes of its file, and what makes a runner of so many threads."""

    bytes: int
    runner: Callable[[int], Callable[[np.ndarray], np.ndarray]]


def rivals(name: str, images: Tensor) -> dict[str, Rival]:
    """Every runtime that is installed, by what it computes in and its name, with the network of this name; calibrated
    on the first of the ``images`` (N, 3, 32, 32). Empty where none is installed."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        if _has_onnxruntime():
            file = export_onnx(folded_twin(name), SHAPE, Path(folder) / "twin.onnx")
            found["float32, onnxruntime"] = _onnxruntime(file.read_bytes())
            found["INT8, onnxruntime"] = _onnxruntime(_quantized_onnx(file, images))
        if _installed("openvino", "nncf"):
            found["INT8, OpenVINO"] = _openvino(name, images, Path(folder))
    return found


def in_onnxruntime(network: nn.Module) -> Rival | None:
    """The network for images (N, 3, 32, 32) in onnxruntime; ``None`` where the extra is absent."""
    if not _has_onnxruntime():
        return None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        return _onnxruntime(export_onnx(network, SHAPE, Path(folder) / "network.onnx").read_bytes())


def lead(threads: int) -> int:
    """How many calls that are not timed to make before each that is: the threads of a runtime spin for a while after
    its call and take the core that the next one needs."""
    return 4 if threads > 1 else 0


def folded_twin(name: str) -> nn.Module:
    """The float twin with BatchNorm before ReLU, in evaluation mode; its statistics are those of random images."""
    torch.manual_seed(0)
    twin = create(name, "32/32")
    for part in twin.modules():
        if isinstance(part, nn.Sequential) and len(part) > 2 and isinstance(part[2], nn.BatchNorm2d):
            part[1], part[2] = part[2], part[1]
    return calibrated(twin, torch.randn(256, *SHAPE))


def calibrated(network: nn.Module, images: Tensor) -> nn.Module:
    """Take the statistics of these images into every BatchNorm; returns the network in evaluation mode."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None
    with torch.no_grad():
        network.train()(images[:256])
    return network.eval()


def _has_onnxruntime() -> bool:
    return _installed("onnxruntime", "onnx", "onnxscript")


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters and quantisers print and log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


# --- runtimes ---------------------------------------------------------------------------------------------------------


def _onnxruntime(data: bytes) -> Rival:
    import onnxruntime

    def runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"images": pixels})[0]

    return Rival(len(data), runner)


def _quantized_onnx(file: Path, images: Tensor) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(images[:128].split(32))

        def get_next(self):
            part = next(self.batches, None)
            return None if part is None else {"images": part.numpy()}

    ready, small = file.with_name("ready.onnx"), file.with_name("int8.onnx")
    quant_pre_process(file, ready)
    quantize_static(
        ready, small, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": False}, reduce_range=False,
    )  # fmt: skip
    return small.read_bytes()


def _openvino(name: str, images: Tensor, folder: Path) -> Rival:
    import nncf
    import openvino

    network = openvino.convert_model(folded_twin(name), example_input=images[:1], input=[-1, *SHAPE])
    small = nncf.quantize(network, nncf.Dataset([part.numpy() for part in images[:128].split(32)]))
    openvino.save_model(small, folder / "int8.xml")
    size = sum((folder / f"int8.{suffix}").stat().st_size for suffix in ("xml", "bin"))

    def runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(small, "CPU", options)
        request, output = compiled.create_infer_request(), compiled.output(0)
        return lambda pixels: request.infer({0: pixels}, share_inputs=True)[output].copy()

    return Rival(size, runner)
