"""Sections on single operations: the machine, convolutions of signs, the estimators' slopes, one layer with its
backward pass. All against float64, one operation at a time: a whole binary network is chaotic.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
from typing import Any

import torch
from torch import Tensor, nn

import resteutils as ru
from benchmarks.gpu.session import Session
from resteutils.nn.exact import convolve, convolve_signs
from resteutils.recipes import Recipe
from resteutils.runs.provenance import machine as computer
from resteutils.runs.provenance import provenance
from resteutils.training.device import Execution
from resteutils.training.switches import numerics

__all__ = ["a_layer_and_its_backward", "convolutions_of_signs", "machine", "slopes_of_estimators"]

PRECISIONS = ("fp32", "tf32", "bf16")
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
# (channels in, channels out, size, stride) of every 3x3 convolution of the six networks
SHAPES = (
    (16, 16, 32, 1), (16, 32, 32, 2), (32, 32, 16, 1), (32, 64, 16, 2), (64, 64, 8, 1),
    (64, 64, 32, 1), (128, 128, 32, 1), (128, 256, 16, 1), (256, 256, 16, 1), (512, 512, 4, 1),
    (64, 64, 56, 1), (64, 128, 56, 2), (128, 128, 28, 1), (256, 256, 14, 1), (512, 512, 7, 1),
)  # fmt: skip
LIMITS = {"fp32": 2e-6, "tf32": 2e-3, "bf16": 1.5e-2}  # relative error of a layer's output and gradients


def machine(session: Session) -> dict[str, Any]:
    """Name the GPU, what drives it, and what training there needs."""
    properties = torch.cuda.get_device_properties(0)
    environment = Execution.uncompiled(Recipe(), session.device).environment()
    return {
        **environment,
        "capability": [properties.major, properties.minor],
        "memory_gb": round(properties.total_memory / 2**30, 1),
        "nvidia_smi": _said("nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader"),
        "mps": bool(shutil.which("nvidia-cuda-mps-control")),
        "gcc": bool(shutil.which("gcc")),
        "computer": computer(),
        "provenance": provenance(),
    }


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def convolutions_of_signs(session: Session) -> dict[str, Any]:
    """Integers in 15 shapes, 3 precisions and 2 layouts, by the algorithms that cuDNN's search takes.

    ``as torch computes`` is the plain convolution in that precision; ``as layers compute`` what binary layers call.
    For each inexact one: the share of outputs that are wrong, and of those where ReLU's mask is.
    """
    found: dict[str, dict] = {"as torch computes": {}, "as layers compute": {}}
    cases = itertools.product(PRECISIONS, LAYOUTS, SHAPES[:3] if session.fake else SHAPES)
    for precision, layout, (cin, cout, size, stride) in cases:
        execution = Execution(session.device, precision)
        with numerics(Recipe(precision=precision), session.device):
            x = _signs((8 if session.fake else 64, cin, size, size), session, LAYOUTS[layout])
            kernel = _signs((cout, cin, 3, 3), session, LAYOUTS[layout])
            call = ((stride, stride), (1, 1), (1, 1), 1)
            exact = convolve(x.double(), kernel.double(), *call)
            for how, function in zip(found, (convolve, convolve_signs), strict=True):
                with execution.autocast():
                    result = function(x, kernel, *call)
                wrong = (result != exact.to(result.dtype)).double().mean()
                mask = ((result > 0) != (exact > 0)).double().mean()
                if wrong or mask:
                    name = f"{precision}, {layout}, {cin}->{cout}, {size} px, stride {stride}"
                    found[how][name] = [float(wrong), float(mask)]
    return {"ok": session.fake or not found["as layers compute"], "inexact": found}


def _signs(shape: tuple[int, ...], session: Session, layout: torch.memory_format) -> Tensor:
    return torch.where(torch.rand(shape, device=session.device) < 0.5, -1.0, 1.0).to(memory_format=layout)


def slopes_of_estimators(session: Session) -> dict[str, Any]:
    """The largest relative error of every estimator's derivative, away from the edges where it jumps."""
    z = torch.cat([torch.linspace(-2, 2, 40_001), torch.tensor([0.0, -0.0, 1e-30])])
    worst = {}
    for name, kind in ru.ESTIMATORS.items():
        for progress in (0.0, 0.37, 1.0):
            estimator = kind().at(progress)
            found = estimator.derivative(z.to(session.device)).cpu().double()
            exact = estimator.derivative(z.double())
            floor = exact.abs().clamp(min=0.01 * float(exact.abs().max()))  # sums that cancel have no relative error
            beside = [estimator.derivative(z.double() + step) for step in (-1e-6, 1e-6)]
            smooth = (beside[0] - beside[1]).abs() <= 1e-3 * floor
            error = (found - exact).abs() / floor
            worst[f"{name} at {progress}"] = float(error[smooth].max())
    return {"ok": session.fake or max(worst.values()) < 2e-5, "relative error": worst}


def a_layer_and_its_backward(session: Session) -> dict[str, Any]:
    """Relative error of output, input gradient and weight gradient of one layer, eager and compiled, by precision."""
    rows = {}
    for bits in ("1/1", "1/32"):
        torch.manual_seed(0)
        layer = ru.BinaryConv2d(64, 64, 3, padding=1, binarize_input=bits == "1/1").to(session.device)
        double = ru.BinaryConv2d(64, 64, 3, padding=1, binarize_input=bits == "1/1").to(session.device)
        double.load_state_dict(layer.state_dict())
        double.double()
        for module in (layer, double):
            ru.anneal(module, 0.7)
        x, grad = torch.randn(2, 16, 64, 16, 16, device=session.device)
        exact = _gradients(double, layer=double, x=x.double(), grad=grad.double(), precision="fp32")
        modules = {"eager": layer}
        if not session.fake:  # fakecuda's tests compile; here it would take a minute
            modules["compiled"] = torch.compile(layer, dynamic=False)
            modules["compiled, combined"] = torch.compile(layer, dynamic=False, options={"combo_kernels": True})
        for precision in PRECISIONS:
            for name, module in modules.items():
                found = _gradients(module, layer, x, grad, precision)
                errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
                rows[f"{bits} {precision} {name}"] = errors
    held = all(max(errors) < LIMITS[name.split()[1]] for name, errors in rows.items())
    return {"ok": session.fake or held, "limits": LIMITS, "relative error of output, dx, dw": rows}


def _gradients(module: nn.Module, layer: nn.Module, x: Tensor, grad: Tensor, precision: str) -> list[Tensor]:
    layer.weight.grad = None
    x = x.detach().clone().requires_grad_()
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(Recipe(precision=precision), x.device))
        stack.enter_context(Execution(x.device, precision).autocast())
        out = module(x)
        out.backward(grad.to(out.dtype))
    return [t.double() for t in (out.detach(), x.grad, layer.weight.grad)]
