"""What a network's source says of weights that are read and of ReLUs, without an example input or with one."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import resteutils as ru


class ReadsWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.called = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.called(self.by_hand(self.first(x)).relu())

    def by_hand(self, x):
        return nn.functional.linear(x, self.hidden.weight)


class HandsOver(ReadsWeights):
    def by_hand(self, x):
        return by_hand(self.hidden, x)


def by_hand(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x, layer.weight)


def test_an_example_finds_layers_whose_weights_are_read_and_inputs_of_one_sign() -> None:
    with pytest.warns(UserWarning) as said:
        model = ru.binarize_model(HandsOver(), skip="first", example=torch.randn(8, 4))
    assert [name for name, _ in ru.binary_layers(model)] == ["called"]
    assert any("hidden (Linear: not called" in str(each.message) for each in said)
    assert any("the input of called has one sign" in str(each.message) for each in said)
    assert "forward" not in vars(model.called)
    assert model.training


def test_a_layer_that_is_handed_to_a_function_is_warned_of_where_there_is_no_example() -> None:
    with pytest.warns(UserWarning, match=r"hidden by HandsOver\.by_hand; example="):
        model = ru.binarize_model(HandsOver(), bits="1/32", skip="first")
    assert [name for name, _ in ru.binary_layers(model)] == ["hidden", "called"]


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.called, self.taken = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return nn.functional.linear(self.called(x.to(self.called.weight.dtype)), self.taken.weight)


def test_a_layer_whose_weights_a_forward_reads_stays_float_also_without_an_example() -> None:
    with pytest.warns(UserWarning, match=r"taken \(Linear: Reads.forward reads its weights itself\)"):
        model = ru.binarize_model(Reads(), skip=())
    assert [name for name, _ in ru.binary_layers(model)] == ["called"]


class Block(nn.Module):
    """Reads each of its layers' weights in another way, but for ``called``."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("called", "plain", "named", "either", "got", "shared"):
            setattr(self, name, nn.Linear(4, 4))
        self.many = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.below = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        nn.init.ones_(self.called.weight)  # no forward pass

    def forward(self, x):
        if isinstance(self.called.weight, torch.Tensor):
            x = self.called(x.to(self.called.weight.dtype))
        return self.mix(x) + sum(nn.functional.linear(x, layer.weight) for layer in self.many)

    def mix(self, x):
        named = self.named
        some = self.plain if x.ndim == 2 else self.either
        x = nn.functional.linear(x, named.weight) + nn.functional.linear(x, some.weight)
        return nn.functional.linear(x @ self.shared_weight, self.got.weight) @ self.below["a"].weight

    @property
    def shared_weight(self):
        return self.shared.weight


class Child(Block):
    def mix(self, x):
        return super().mix(x)


class Other(nn.Module):
    """Calls a method that is not the ``forward`` of what it calls, which reads a weight there."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ReadsWeights()

    def forward(self, x):
        return self.inner.by_hand(x)


@pytest.mark.parametrize(
    ("kind", "called"),
    [(Block, ["called", "below.b"]), (Child, ["called", "below.b"]), (ReadsWeights, ["first", "called"]),
     (Other, ["inner.first", "inner.called"])],
)  # fmt: skip
def test_a_weight_that_any_method_of_a_forward_pass_reads_stays_float(kind: type[nn.Module], called: list[str]) -> None:
    with pytest.warns(UserWarning) as said:
        model = ru.binarize_model(kind(), skip=())
    assert [name for name, _ in ru.binary_layers(model)] == called
    assert "reads its weights itself" in str(said[0].message)
    assert all(row.name in str(said[0].message) for row in model.conversion.left)


def test_where_there_is_no_source_an_example_is_asked_for() -> None:
    made: dict = {"nn": nn}
    exec(  # as at a prompt
        "class Made(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        return nn.functional.linear(self.b(x), self.a.weight)\n",
        made,
    )
    with pytest.warns(UserWarning, match=r"Made\.forward.*example="):
        ru.binarize_model(made["Made"](), skip=())
    with pytest.warns(UserWarning, match=r"a \(Linear: not called"):
        ru.binarize_model(made["Made"](), skip=(), example=torch.randn(8, 4))


class Function(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second, self.how, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), how, nn.Hardtanh()
        if how == "kept":
            self.act = nn.functional.relu

    def forward(self, x):
        return self.second(self.relu(self.first(x)))


class Functional(Function):
    def forward(self, x):
        return self.second(nn.functional.relu(self.first(x)))


class OfTorch(Function):
    def forward(self, x):
        return self.second(self.off(self.first(x)))

    def off(self, x):
        return torch.relu_(x)


class Method(Function):
    def forward(self, x):
        return self.second(self.first(x).relu())


class Made(Function):
    def forward(self, x):
        return self.second(nn.ReLU()(self.first(x)))


@pytest.mark.parametrize(
    ("model", "where"),
    [(Functional(""), "Functional.forward"), (OfTorch(""), "OfTorch.off"), (Method(""), "Method.forward"),
     (Made(""), "Made.forward"), (Function("kept"), "Function.act")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_relu_that_is_called_as_a_function_is_warned_of_also_with_an_activation(model: nn.Module, where: str) -> None:
    for activation in (None, nn.Hardtanh):
        with pytest.warns(UserWarning, match=rf"ReLU \({where}\)"):
            ru.binarize_model(model, skip=(), activation=activation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ru.binarize_model(model, bits="1/32", skip=())
        ru.binarize_model(Function(""), skip=())  # self.relu is a module
    if where == "Functional.forward":
        with pytest.warns(UserWarning, match=rf"input of second has one sign.*{where}"):
            ru.binarize_model(model, skip=(), activation=nn.Hardtanh, example=torch.randn(8, 4))
