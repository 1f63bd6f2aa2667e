"""Packed bits against float32: layers, whole networks, files, evaluation while training; and ReSTE's backward pass.

onnxruntime is the extra ``export``. larq-compute-engine needs an environment of its own, whose interpreter LARQ_PYTHON
names: ``pip install larq-compute-engine==0.16.0 tensorflow-cpu==2.15.1 larq==0.13.3 'numpy<2'`` under Python 3.11.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

import resteutils as ru
from benchmarks.ratios import Row, row, steady
from resteutils import kernels
from resteutils.items.deploy import LEAST_TIMES_SMALLER, state_bytes
from resteutils.onebit import model as packed
from resteutils.onebit.rivals import Rival, in_onnxruntime
from resteutils.onebit.timing import Samples, interleaved
from resteutils.training.epoch import COMPARED, packed_scorer

__all__ = ["rows"]

GROUP = "onebit"
LAST = torch.channels_last
WHY_EMPTY = kernels.why_not()

LAYERS = ((256, 14, 1), (128, 16, 1))
MORE_LAYERS = ((64, 32, 1), (512, 4, 1), (256, 14, 64), (128, 16, 64))
NETWORKS = {"resnet18": 4, "vgg_small": 6, "resnet20": None}  # how many times faster than onnxruntime, at batch 1
EVALUATION = {"resnet18": 1 / 4, "vgg_small": 1 / 5}  # of the float twin's time, at most
IMAGES = 2000  # that are scored


def rows(full: bool) -> Iterator[Row]:
    if not kernels.available():
        return
    yield from _files()
    before = torch.get_num_threads()
    for threads in sorted({1, before}):
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                for channels, size, batch in LAYERS + (MORE_LAYERS if full else ()):
                    yield from _layer(channels, size, batch, threads)
                for name in NETWORKS:
                    for batch in (1, 64) if full else (1,):
                        yield from _network(name, batch, threads)
        finally:
            torch.set_num_threads(before)
    yield from _larq(256, 14)
    yield from _backward()
    for name in EVALUATION:
        yield from _evaluation(name)


# --- a layer ----------------------------------------------------------------------------------------------------------


def _layer(channels: int, size: int, batch: int, threads: int) -> Iterator[Row]:
    """Float images in, float sums out on both sides, each in its better memory format; weights are packed once."""
    torch.manual_seed(0)
    x, weight = torch.randn(batch, channels, size, size), torch.randn(channels, channels, 3, 3)
    last, last_weight = x.to(memory_format=LAST), weight.to(memory_format=LAST)
    bits = kernels.pack_weight(weight)
    signs, sign_weight = torch.sign(last), torch.sign(weight)
    if not torch.equal(kernels.binary_conv2d_packed(last, bits, 1, 1), F.conv2d(signs, sign_weight, padding=1)):
        raise RuntimeError("the packed layer does not equal the convolution of the signs")
    compiled = torch.compile(lambda x, w: F.conv2d(x, w, padding=1), dynamic=False)
    variants = {
        "packed": lambda: kernels.binary_conv2d_packed(last, bits, 1, 1),
        "packed, channels first": lambda: kernels.binary_conv2d_packed(x, bits, 1, 1),
        "packed, weights packed at every call": lambda: kernels.binary_conv2d(last, weight, 1, 1),
        "float, channels first": lambda: F.conv2d(x, weight, padding=1),
        "float, channels last": lambda: F.conv2d(last, last_weight, padding=1),
        "float, compiled": lambda: compiled(last, last_weight),
    }
    samples = interleaved(variants, repeats=101 if batch == 1 else 15, warmup=5, budget=20)
    floats = [name for name in variants if name.startswith("float")]
    best = min(floats, key=lambda name: samples[name].median)
    case = f"3x3 layer, {channels} channels, {size}x{size}, batch {batch}, {_threads(threads)}"
    target = 1 / 6 if (channels, size, batch) in LAYERS else None
    yield row(GROUP, case, samples, "packed", best, target, note="the best float32 convolution of torch")
    yield row(GROUP, case, samples, "packed, channels first", best)
    yield row(GROUP, case, samples, "packed, weights packed at every call", best)


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


# --- a network --------------------------------------------------------------------------------------------------------


def _network(name: str, batch: int, threads: int) -> Iterator[Row]:
    torch.manual_seed(0)
    small, twin = packed.pack(ru.create(name).eval()), ru.create(name, "32/32").eval()
    rival, images = _in_onnxruntime(name), torch.randn(batch, 3, 32, 32)
    last = images.to(memory_format=LAST)
    twin_last = ru.create(name, "32/32").eval().to(memory_format=LAST)
    variants = {
        "packed": lambda: small(images),
        "float, torch": lambda: twin(images),
        "float, torch, channels last": lambda: twin_last(last),
    }
    if rival is not None:
        variants["float, onnxruntime"] = functools.partial(rival.runner(threads), images.numpy())
    samples = interleaved(variants, repeats=51 if batch == 1 else 9, warmup=3, budget=30)
    target = NETWORKS[name] if batch == 1 else None
    case = f"{name}, batch {batch}, {_threads(threads)}"
    for against in list(variants)[1:]:
        aim = 1 / target if target and "onnx" in against else None
        yield row(GROUP, case, samples, "packed", against, aim)


@functools.cache
def _in_onnxruntime(name: str) -> Rival | None:
    return in_onnxruntime(ru.create(name, "32/32"))


# --- files ------------------------------------------------------------------------------------------------------------


def _files() -> Iterator[Row]:
    for name, target in LEAST_TIMES_SMALLER.items():
        sizes = (packed.pack(ru.create(name)).bytes / 1e3, state_bytes(ru.create(name, "32/32")) / 1e3)
        yield steady(GROUP, name, "packed file", "float32 state dict", sizes, "kB", target=1 / target)


# --- larq-compute-engine ----------------------------------------------------------------------------------------------


def _larq(channels: int, size: int) -> Iterator[Row]:
    """Its own process, turn by turn with ours; it pads with ones and we with zeros, which costs the same."""
    python = os.environ.get("LARQ_PYTHON", "")
    if not python:
        print("  larq-compute-engine: not measured, LARQ_PYTHON is not set (see benchmarks/onebit.py)")
        return
    x = torch.randn(1, channels, size, size).to(memory_format=LAST)
    bits = kernels.pack_weight(torch.randn(channels, channels, 3, 3))
    before = torch.get_num_threads()
    for threads in sorted({1, before}):
        script = [python, str(Path(__file__).with_name("larq_layer.py")), str(channels), str(size), str(threads)]
        with subprocess.Popen(
            script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            torch.set_num_threads(threads)
            while (line := child.stdout.readline()) and line.strip() != "ready":
                pass
            if not line:
                raise RuntimeError(f"larq-compute-engine did not start under {python}; run {' '.join(script)}")
            times: dict[str, list[float]] = {"packed": [], "larq-compute-engine": []}
            with torch.inference_mode():
                for _ in range(60):
                    child.stdin.write("\n")
                    child.stdin.flush()
                    times["larq-compute-engine"].append(float(child.stdout.readline()))
                    kernels.binary_conv2d_packed(x, bits, 1, 1)  # the caches were the other's
                    start = time.perf_counter()
                    kernels.binary_conv2d_packed(x, bits, 1, 1)
                    times["packed"].append(time.perf_counter() - start)
            child.stdin.close()
        torch.set_num_threads(before)
        samples = {name: Samples(tuple(values[10:])) for name, values in times.items()}
        case = f"3x3 layer, {channels} channels, {size}x{size}, batch 1, {_threads(threads)}"
        yield row(GROUP, case, samples, "packed", "larq-compute-engine", 1 / 20, note="two processes, alternated")


# --- ReSTE's backward pass and evaluation -----------------------------------------------------------------------------


def _backward() -> Iterator[Row]:
    """Against the traffic it cannot avoid: read two tensors, write one, into memory that is there already."""
    o, m, t = 1.7, 0.1, 1.5
    z, grad = torch.randn(256, 16, 32, 32), torch.randn(256, 16, 32, 32)
    out = torch.empty_like(z)
    estimator = ru.ReSTE(o=o)
    variants = {
        "compiled kernel": lambda: kernels.reste_backward(grad, z, 1 / o, (1 - o) / o, m ** ((1 - o) / o), m, t),
        "grad * derivative, eager": lambda: grad * estimator.derivative(z),
        "torch.mul into memory at hand": lambda: torch.mul(grad, z, out=out),
        "torch.mul": lambda: torch.mul(grad, z),
    }
    with torch.inference_mode():
        samples = interleaved(variants, repeats=41, warmup=3, budget=20)
    case = f"ReSTE's backward pass, 4.2 M elements, {_threads(torch.get_num_threads())}"
    yield row(GROUP, case, samples, "compiled kernel", "torch.mul into memory at hand")
    yield row(GROUP, case, samples, "compiled kernel", "torch.mul")
    yield row(GROUP, case, samples, "compiled kernel", "grad * derivative, eager")


def _evaluation(name: str) -> Iterator[Row]:
    """A network in training, scored: on packed bits, packing and its check included, and by its own modules."""
    model, twin = (ru.create(name, bits).eval().to(memory_format=LAST) for bits in ("1/1", "32/32"))
    batches = torch.randn(IMAGES, 3, 32, 32).to(memory_format=LAST).split(100)
    torch.compiler.reset()
    compiled = torch.compile(twin, dynamic=False)

    def on_bits() -> None:
        score = packed_scorer(model, batches[0][:COMPARED])
        for part in batches:
            score(part)

    variants = {
        "network on packed bits": on_bits,
        "modules on packed bits": lambda: [model(part) for part in batches],
        "float twin, compiled": lambda: [compiled(part) for part in batches],
    }
    with torch.inference_mode():
        samples = interleaved(variants, repeats=7, warmup=1, budget=40)
    case = f"evaluation of {name} while training, {IMAGES:,} images, {_threads(torch.get_num_threads())}"
    for variant, target in zip(list(variants)[:2], (EVALUATION[name], None), strict=True):
        yield row(GROUP, case, samples, variant, "float twin, compiled", target)
