"""Binary layers: latent weights in, binary arithmetic inside, an estimator for the way back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resteutils import kernels
from resteutils.estimators import Estimator, ReSTE
from resteutils.estimators.base import check_estimator, check_tensor
from resteutils.nn.binarize import SCALES, ConvSpec, binarize, binary_conv2d, check_scale_order, scale_of
from resteutils.nn.coefficients import at, fill, writable
from resteutils.nn.traceable import as_fx_leaf, tracing

__all__ = ["BinaryConv1d", "BinaryConv2d", "BinaryLinear", "anneal", "binary_layers"]

MACS_WORTH_A_KERNEL = 1_000_000_000  # in one call: below, compiling the kernel would take longer than it ever saves


class _Binary:
    """What binary layers share: two estimators, their place on the path, and how the place is kept.

    ``estimator`` and ``input_estimator`` are the estimators at the end of training; ``current`` and ``input_current``
    are where they are now. A fresh layer stands at the end of the path (progress 1), so that it uses what it was given.
    """

    weight_scale = 1.0  # latent weights over float weights, where binarize_model was told one

    def _set_up(
        self, estimator: Estimator, input_estimator: Estimator | None, binarize_input: bool, scale: str
    ) -> None:
        check_estimator("estimator", estimator)
        if input_estimator is not None:
            check_estimator("input_estimator", input_estimator)
        if scale not in SCALES:
            raise ValueError(f"scale = {scale!r}, expected one of {', '.join(SCALES)}")
        if not self.weight.numel():  # the scale is a mean
            raise ValueError(f"weights of the shape {tuple(self.weight.shape)}, expected at least one feature each way")
        self.estimator = estimator
        self.input_estimator = (input_estimator or estimator) if binarize_input else None
        self.scale = scale
        self.register_buffer("coefficients", None, persistent=False)
        self._filled: tuple | None = None  # values, and dtype and device, that ``coefficients`` holds
        self._place: tuple | None = None  # progress, estimators, dtype and device that ``current`` is of
        self.set_progress(1.0)

    @property
    def binarize_input(self) -> bool:
        """True at W/A 1/1, False at 1/32."""
        return self.input_estimator is not None

    def set_estimator(self, estimator: Estimator, input_estimator: Estimator | None = None) -> None:
        """Other estimators from here on, at the end of their paths; ``input_estimator`` None is the same."""
        self.estimator = estimator
        self.input_estimator = (input_estimator or estimator) if self.binarize_input else None
        self._place = None
        self.set_progress(1.0)

    def effective_weight(self) -> Tensor:
        """What sign and estimator see: the latent weights, standardised where the layer says so."""
        return self.weight

    def set_progress(self, progress: float) -> None:
        """Move both estimators to ``progress`` in [0, 1] on their paths."""
        if self._move(progress, at(progress)):
            fill([self])

    def _move(self, progress: float, moved: Callable[[Estimator], Estimator]) -> bool:
        """Move both estimators to where ``moved`` says they are; False where they are there already."""
        place = (progress, self.estimator, self.input_estimator, self.weight.dtype, self.weight.device)
        if place == self._place and writable(self.coefficients):
            return False
        self.current = moved(self.estimator)
        self.input_current = moved(self.input_estimator) if self.binarize_input else None
        self.progress = float(progress)
        self._place = place
        return True

    def _values(self) -> tuple[float, ...]:
        own = self.current.coefficients()
        return own + self.input_current.coefficients() if self.binarize_input else own

    def _live_coefficients(self) -> tuple[float | Tensor, ...]:
        return self.coefficients.unbind() if torch.compiler.is_compiling() else self._values()

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self._filled = None
        fill([self])  # in full precision again after a change of dtype
        return self

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.progress, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.set_progress(float(state))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """A float layer's state has no place on a path: its weights are scaled, and the layer stands at the end."""
        weight, place = f"{prefix}weight", f"{prefix}_extra_state"  # ``state_dict`` is torch's own copy
        if weight in state_dict and place not in state_dict:
            state_dict[place] = torch.ones((), dtype=torch.float64, device="cpu")
            if self.weight_scale != 1.0 and isinstance(state_dict[weight], Tensor):
                state_dict[weight] = state_dict[weight].detach() * self.weight_scale
        self.__dict__["_loads"] = True  # torch sets a bias anew where it assigns
        try:
            super()._load_from_state_dict(state_dict, prefix, *args)
        finally:
            del self.__dict__["_loads"]

    def __setattr__(self, name: str, value: object) -> None:
        fuses = "estimator" in self.__dict__ and "_loads" not in self.__dict__
        if name == "bias" and isinstance(value, nn.Parameter) and fuses:
            raise RuntimeError(
                f"{type(self).__name__} takes no new bias: a BatchNorm fused into its latent weights would change "
                "their signs and scale. To set a bias that it has, write into it: layer.bias.data.copy_(values)"
            )
        super().__setattr__(name, value)

    def _check_input(self, x: Tensor) -> None:
        """One rule with and without a kernel, in training and evaluation: that of torch's own layers."""
        check_tensor(x)
        cast = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, self.weight.dtype)
        if x.dtype != self.weight.dtype and not cast:
            raise TypeError(f"input is {x.dtype}, the layer's weights are {self.weight.dtype}: convert one of them")

    def _describe(self) -> str:
        activations = f"input_estimator={self.input_estimator}" if self.binarize_input else "binarize_input=False"
        return f"estimator={self.estimator}, {activations}, scale={self.scale!r}"


class _Convolution(_Binary):
    """What :class:`BinaryConv1d` and :class:`BinaryConv2d` share."""

    def _check_arguments(self, scale_order: str, padding: object) -> None:
        check_scale_order(scale_order)
        if isinstance(padding, str):
            raise ValueError(f"padding = {padding!r}, expected a number of pixels, one for each dimension or for all")

    def effective_weight(self) -> Tensor:
        return standardized(self.weight) if self.standardize else self.weight

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            return as_fx_leaf(self, x)
        self._check_input(x)
        spec = ConvSpec(
            stride=self.stride,
            padding=self.padding,
            estimator=type(self.estimator),
            input_estimator=type(self.input_estimator) if self.binarize_input else None,
            weight_coefficients=len(self.estimator.coefficients()),
            scale=self.scale,
            scale_order=self.scale_order,
            packed=self._use_packed(x),
            table_gradients=self._use_tables(),
            dilation=self.dilation,
            groups=self.groups,
        )
        out = binary_conv2d(x, self.effective_weight(), spec, *self._live_coefficients())
        return out if self.bias is None else out + self.bias.to(out.dtype).view(-1, *(1 for _ in self.stride))

    def _use_packed(self, x: Tensor) -> bool:
        return False

    def _use_tables(self) -> bool:
        return False

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._describe()}, scale_order={self.scale_order!r}"


class BinaryConv1d(_Convolution, nn.Conv1d):
    """Convolution of signs: (N, C_in, L) -> (N, C_out, L'). Arguments as in :class:`BinaryConv2d`, without a packed
    forward pass."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        estimator: Estimator | None = None,
        input_estimator: Estimator | None = None,
        binarize_input: bool = True,
        scale: str = "layer",
        scale_order: str = "after",
        standardize: bool = False,
        *,
        bias: bool = False,
        dilation: int = 1,
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_arguments(scale_order, padding)
        place = {"device": device, "dtype": dtype}
        nn.Conv1d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, **place
        )
        self.scale_order, self.standardize = scale_order, standardize
        self._set_up(ReSTE() if estimator is None else estimator, input_estimator, binarize_input, scale)


class BinaryConv2d(_Convolution, nn.Conv2d):
    """Convolution of signs: (N, C_in, H, W) -> (N, C_out, H', W').

    Arguments:
        in_channels, out_channels, kernel_size, stride, padding: as in ``nn.Conv2d``; padding is with zeros.
        estimator: sends gradients to the latent weights; at the end of its path, see :func:`anneal`.
        input_estimator: sends gradients to the input; ``None`` is the same estimator.
        binarize_input: True is W/A 1/1; False is 1/32, where the input stays as it is.
        scale: alpha = mean|w| per "layer" (the paper's code) or output "channel", with the gradient flowing through it;
            "layer-detached" and "channel-detached" stop that gradient; "none" is alpha = 1.
        scale_order: "after" the convolution (exact integers) or "before", the authors' order.
        standardize: give the weights of each filter zero mean and unit standard deviation before binarizing them.
        packed: compute the forward pass of W/A 1/1 on packed bits, the same integers. True: always (raises
            ``RuntimeError`` where the kernel cannot be had); False: never; ``None``: in evaluation on a CPU, where the
            kernel is compiled already or the work is worth compiling it. Groups of fewer than 8 output channels, as in
            depthwise layers, are computed by torch, which is faster there.
        table_gradients: compute the gradients of W/A 1/1 by tables of signed sums, where they are float32 on a CPU:
            faster on many, and equal but for the order of summation. Layers with groups or dilation have torch's.
            Raises ``RuntimeError`` in the backward pass where the kernels cannot be had.
        bias: add a float number per output channel after the scale. The paper's networks have none: BatchNorm behind
            the layer has a shift.
        dilation, groups, device, dtype: as in ``nn.Conv2d``.

    The input must be of the weights' dtype, as in ``nn.Conv2d``; autocast converts.

    Raises ``TypeError`` for a wrong estimator or input and ``ValueError`` for an unknown scale or order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        estimator: Estimator | None = None,
        input_estimator: Estimator | None = None,
        binarize_input: bool = True,
        scale: str = "layer",
        scale_order: str = "after",
        standardize: bool = False,
        packed: bool | None = None,
        *,
        table_gradients: bool = False,
        bias: bool = False,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_arguments(scale_order, padding)
        place = {"device": device, "dtype": dtype}
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, **place
        )
        self.scale_order, self.standardize, self.packed = scale_order, standardize, packed
        self.table_gradients = table_gradients
        self._set_up(ReSTE() if estimator is None else estimator, input_estimator, binarize_input, scale)

    def _has_kernels(self) -> bool:
        """Whether what this layer computes is what the kernels compute: W/A 1/1, scaled after the convolution."""
        return self.binarize_input and self.scale_order == "after" and not tracing()

    def _use_tables(self) -> bool:
        return self.table_gradients and self._has_kernels() and self.groups == 1 and self.dilation == (1, 1)

    def _use_packed(self, x: Tensor) -> bool:
        if self.packed is False or not self._has_kernels() or not kernels.fills_lanes(self.out_channels, self.groups):
            return False
        if self.packed:
            return True
        if self.training or not x.is_cpu:
            return False
        macs = self.weight.numel() * (x.numel() // self.in_channels) // (self.stride[0] * self.stride[1])
        return kernels.ready() or (macs >= MACS_WORTH_A_KERNEL and kernels.available())


class BinaryLinear(_Binary, nn.Linear):
    """Matrix product of signs: (..., in_features) -> (..., out_features). Arguments as in :class:`BinaryConv2d`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        estimator: Estimator | None = None,
        input_estimator: Estimator | None = None,
        binarize_input: bool = True,
        scale: str = "layer",
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device=device, dtype=dtype)
        self._set_up(ReSTE() if estimator is None else estimator, input_estimator, binarize_input, scale)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            return as_fx_leaf(self, x)
        self._check_input(x)
        coefficients = self._live_coefficients()
        own = len(self.estimator.coefficients())
        if self.binarize_input:
            x = binarize(x, self.input_estimator, coefficients[own:])
        out = nn.functional.linear(x, binarize(self.weight, self.estimator, coefficients[:own]))
        alpha = scale_of(self.weight, self.scale)
        if alpha is not None:
            alpha = alpha.detach() if self.scale.endswith("-detached") else alpha
            out = out * alpha.view(-1).to(out.dtype)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._describe()}"


def standardized(weight: Tensor) -> Tensor:
    """Zero mean and unit standard deviation over each filter, (C_out, C_in, ...); constant filters become zero."""
    std, mean = torch.std_mean(weight, dim=tuple(range(1, weight.dim())), keepdim=True, correction=0)
    return (weight - mean) / std.clamp(min=1e-12)


def binary_layers(model: nn.Module) -> list[tuple[str, BinaryConv1d | BinaryConv2d | BinaryLinear]]:
    """(name, layer) of every binary layer, in the order of definition; empty for a float twin."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, _Binary)]


def anneal(model: nn.Module, progress: float) -> None:
    """Move the estimators of every binary layer to ``progress`` in [0, 1] of the way through training.

    Raises ``ValueError`` outside [0, 1], with or without binary layers.
    """
    moved = at(progress)
    moved(ReSTE())  # the range check
    fill([layer for _, layer in binary_layers(model) if layer._move(progress, moved)])
