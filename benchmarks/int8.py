"""Packed bits against what a user would pick instead: INT8 in onnxruntime and in OpenVINO, float32 in onnxruntime.

The rivals run the float twin with BatchNorm before ReLU, so that every runtime can fold it into the convolution: as
much arithmetic, and less to do than in the twin's own order. INT8 is static and per output channel, calibrated on the
images that are then timed (the best case). onnxruntime and OpenVINO with NNCF are the extras ``export`` and ``bench``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import resteutils as ru
from benchmarks.bound import macs_a_second
from benchmarks.ratios import Row, row, steady
from resteutils import kernels
from resteutils.nn.layers import binary_layers
from resteutils.onebit import model as packed
from resteutils.onebit.export import export_onnx
from resteutils.onebit.timing import interleaved

__all__ = ["AIMS", "folded_twin", "rows"]

GROUP = "int8"
WHY_EMPTY = kernels.why_not() or "onnxruntime and OpenVINO with NNCF are not installed"
BEST = "INT8, OpenVINO"
AIMS = {  # how many times faster than OpenVINO's INT8 at batch 1 and 64, on one thread
    "resnet20": {1: 1.3, 64: 1.0},
    "resnet18": {1: 2.2, 64: 1.6},
    "vgg_small": {1: 2.5, 64: 1.9},
}
IMAGES = 512  # whose predictions are compared


@dataclass(frozen=True)
class Rival:
    """A runtime with a network in it: bytes of its file, and what makes a runner of so many threads."""

    bytes: int
    runner: Callable[[int], Callable[[np.ndarray], np.ndarray]]


def rows(full: bool) -> Iterator[Row]:
    if not kernels.available():
        return
    before = torch.get_num_threads()
    for name in AIMS:
        torch.manual_seed(0)
        images = torch.randn(IMAGES, 3, 32, 32)
        rivals = _rivals(name, images)
        if not rivals:
            return
        yield from _files(name, rivals)
        yield from _exactness(name, rivals, images)
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            try:
                for batch in (1, 64):
                    yield from _speed(name, rivals, images[:batch], threads)
            finally:
                torch.set_num_threads(before)


# --- rows -------------------------------------------------------------------------------------------------------------


def _files(name: str, rivals: dict[str, Rival]) -> Iterator[Row]:
    ours = packed.pack(ru.create(name)).bytes / 1e3
    for rival, found in rivals.items():
        yield steady(GROUP, name, "packed file", f"{rival} file", (ours, found.bytes / 1e3), "kB")


def _exactness(name: str, rivals: dict[str, Rival], images: torch.Tensor) -> Iterator[Row]:
    """Images to which a runtime gives the class that the network gives in torch's float32 arithmetic."""
    pixels, expected = images.numpy(), _in_batches(folded_twin(name), images)
    case = f"{name}, {len(images)} images"
    for rival, found in rivals.items():
        same = int((found.runner(1)(pixels).argmax(1) == expected.argmax(1)).sum())
        yield steady(GROUP, case, rival, "its network in torch", (same, len(images)), "same classes")
    network = _calibrated(ru.create(name), images)
    small = packed.pack(network)
    for _, layer in binary_layers(network):
        layer.packed = False
    same = int((_in_batches(small, images).argmax(1) == _in_batches(network, images).argmax(1)).sum())
    yield steady(GROUP, case, "packed", "its network in torch", (same, len(images)), "same classes")


@torch.inference_mode()
def _in_batches(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    return torch.cat([network(part) for part in images.split(64)]).numpy()


@torch.inference_mode()
def _speed(name: str, rivals: dict[str, Rival], images: torch.Tensor, threads: int) -> Iterator[Row]:
    small, pixels, batch = packed.pack(ru.create(name).eval()), images.numpy(), len(images)
    variants = {"packed": lambda: small(images)}
    for rival, found in rivals.items():
        variants[rival] = functools.partial(found.runner(threads), pixels)
    # The threads of a runtime spin for a while after its call and take the core that the next one needs.
    samples = interleaved(variants, repeats=101 if batch == 1 else 11, warmup=3, budget=30, lead=4 * (threads > 1))
    macs = ru.summary(ru.create(name), (3, 32, 32)).binary_macs * batch
    share = macs / samples["packed"].best / (macs_a_second() * threads)
    case = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    for rival in rivals:
        aim = 1 / AIMS[name][batch] if rival == BEST and threads == 1 else None
        yield row(GROUP, case, samples, "packed", rival, aim, note=f"{100 * share:.0f} % of the 1-bit bound")


# --- the rivals -------------------------------------------------------------------------------------------------------


def folded_twin(name: str) -> nn.Module:
    """The float twin with BatchNorm before ReLU, in evaluation mode; its statistics are those of random images."""
    torch.manual_seed(0)
    twin = ru.create(name, "32/32")
    for part in twin.modules():
        if isinstance(part, nn.Sequential) and len(part) > 2 and isinstance(part[2], nn.BatchNorm2d):
            part[1], part[2] = part[2], part[1]
    return _calibrated(twin, torch.randn(256, 3, 32, 32))


def _calibrated(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """Statistics of these images in every BatchNorm."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None
    with torch.no_grad():
        network.train()(images[:256])
    return network.eval()


def _rivals(name: str, images: torch.Tensor) -> dict[str, Rival]:
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), _quiet():
        if _installed("onnxruntime", "onnx", "onnxscript"):
            file = export_onnx(folded_twin(name), (3, 32, 32), Path(folder) / "twin.onnx")
            found["float32, onnxruntime"] = _onnxruntime(file.read_bytes())
            found["INT8, onnxruntime"] = _onnxruntime(_quantized_onnx(file, images))
        if _installed("openvino", "nncf"):
            found[BEST] = _openvino(name, images, Path(folder))
    return found


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _onnxruntime(data: bytes) -> Rival:
    import onnxruntime

    def runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"images": pixels})[0]

    return Rival(len(data), runner)


def _quantized_onnx(file: Path, images: torch.Tensor) -> bytes:
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


def _openvino(name: str, images: torch.Tensor, folder: Path) -> Rival:
    import nncf
    import openvino

    network = openvino.convert_model(folded_twin(name), example_input=images[:1], input=[-1, 3, 32, 32])
    small = nncf.quantize(network, nncf.Dataset([part.numpy() for part in images[:128].split(32)]))
    openvino.save_model(small, folder / "int8.xml")
    size = sum((folder / f"int8.{suffix}").stat().st_size for suffix in ("xml", "bin"))

    def runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(small, "CPU", options)
        request, output = compiled.create_infer_request(), compiled.output(0)
        return lambda pixels: request.infer({0: pixels}, share_inputs=True)[output].copy()

    return Rival(size, runner)
