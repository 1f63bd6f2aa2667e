"""How big a network is when binary weights are counted as bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from resteutils.nn.binarize import scale_of
from resteutils.nn.layers import binary_layers

__all__ = ["LayerSummary", "Summary", "summary"]


@dataclass(frozen=True)
class LayerSummary:
    """One convolution or linear layer: weights, bits per weight and activation, multiply-accumulates for one image."""

    name: str
    kind: str
    weights: int
    weight_bits: int
    activation_bits: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """Sizes of a network. ``bytes`` counts binary weights as bits, 4 bytes for each of their scales and 4 bytes
    for every other parameter and running statistic; ``bytes_float`` counts 4 bytes for everything but the scales.
    """

    layers: tuple[LayerSummary, ...]
    binary_weights: int
    float_weights: int
    binary_macs: int
    mixed_macs: int
    float_macs: int
    bytes: int
    bytes_float: int

    @property
    def parameters(self) -> int:
        return self.binary_weights + self.float_weights

    def __str__(self) -> str:
        rows = [f"{'layer':<28}{'kind':<14}{'W/A bits':>10}{'weights':>14}{'MACs':>16}"]
        for layer in self.layers:
            bits = f"{layer.weight_bits}/{layer.activation_bits}"
            rows.append(f"{layer.name:<28}{layer.kind:<14}{bits:>10}{layer.weights:>14,}{layer.macs:>16,}")
        rows += [
            f"1-bit weights {self.binary_weights:,}, 32-bit weights {self.float_weights:,}, all {self.parameters:,}",
            f"MACs: 1/1 {self.binary_macs:,}, 1/32 {self.mixed_macs:,}, 32/32 {self.float_macs:,}",
            f"{self.bytes:,} bytes; {self.bytes_float:,} as float32 ({self.bytes_float / self.bytes:.1f} times larger)",
        ]
        return "\n".join(rows)


def summary(model: nn.Module, input_size: tuple[int, int, int] = (3, 32, 32)) -> Summary:
    """Count 1-bit and 32-bit weights, multiply-accumulates and bytes for one image of ``input_size`` (C, H, W).

    Raises ``ValueError`` for a size that the network does not take.
    """
    binary = dict(binary_layers(model))
    macs = _count_macs(model, input_size)
    layers = []
    for name, module in model.named_modules():
        if name not in macs:
            continue
        bits = (1, 1 if module.binarize_input else 32) if name in binary else (32, 32)
        layers.append(LayerSummary(name, type(module).__name__, module.weight.numel(), *bits, macs[name]))
    binary_weights = sum(layer.weights for layer in layers if layer.weight_bits == 1)
    everything = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    by_bits = {
        bits: sum(layer.macs for layer in layers if (layer.weight_bits, layer.activation_bits) == bits)
        for bits in ((1, 1), (1, 32), (32, 32))
    }
    scales = sum(
        alpha.numel() for layer in binary.values() if (alpha := scale_of(layer.weight, layer.scale)) is not None
    )
    rest = 4 * (everything - binary_weights + statistics)
    return Summary(
        layers=tuple(layers),
        binary_weights=binary_weights,
        float_weights=everything - binary_weights,
        binary_macs=by_bits[1, 1],
        mixed_macs=by_bits[1, 32],
        float_macs=by_bits[32, 32],
        bytes=sum(-(-layer.weights // 8) for layer in layers if layer.weight_bits == 1) + rest + 4 * scales,
        bytes_float=4 * binary_weights + rest,
    )


def _count_macs(model: nn.Module, input_size: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-accumulates of each convolution and linear layer for one image, from the shapes of a forward pass."""
    macs, handles = {}, []

    def count(name):
        def hook(module, inputs, output):
            per_output = module.weight[0].numel()
            macs[name] = per_output * output[0].numel()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_hook(count(name)))
    modes = [(module, module.training) for module in model.modules()]
    expected = f"input_size = {input_size!r}, expected (C, H, W){_channels(model)}"
    parameter = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_size, device=parameter.device, dtype=parameter.dtype))
    except TypeError as error:
        raise ValueError(expected) from error
    except RuntimeError as error:
        raise ValueError(f"{expected}: {str(error).splitlines()[0]}") from error
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    return macs


def _channels(model: nn.Module) -> str:
    """What is known of the images that a network takes: the channels of its first convolution."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return f" with C = {first.in_channels}, e.g. ({first.in_channels}, 32, 32)" if first else ""
