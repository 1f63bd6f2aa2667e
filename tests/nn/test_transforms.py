"""torch's transforms of binary layers: eager's numbers and gradients, or an error that names the layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import resteutils as ru


def network(**options) -> nn.Sequential:
    torch.manual_seed(0)
    linear = {key: value for key, value in options.items() if key != "scale_order"}
    return nn.Sequential(
        ru.BinaryConv2d(3, 4, 3, padding=1, **options),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        ru.BinaryLinear(100, 3, **linear),
    )


def gradients(call, model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Of the input and of every parameter, by name: torch 2.9's exported networks order them otherwise."""
    x = x.clone().requires_grad_()
    parameters = [parameter for _, parameter in sorted(model.named_parameters())]
    return list(torch.autograd.grad(call(x).square().sum(), (x, *parameters)))


OPTIONS = [{}, {"scale": "channel-detached"}, {"scale": "none"}, {"binarize_input": False}, {"scale_order": "before"},
           {"estimator": ru.EDE(), "input_estimator": ru.ApproxSign()}]  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_exported_network_has_eagers_values_and_gradients(options: dict, training: bool, strict: bool) -> None:
    model, x = network(**options).train(training), torch.randn(2, 3, 5, 5)
    x.view(-1)[0] = 0.0
    torch._dynamo.reset()  # torch 2.9 gives up at the ninth strict export of a class
    exported = torch.export.export(model, (x,), strict=strict).module()
    torch.testing.assert_close(exported(x), model(x))
    ours, theirs = gradients(exported, exported, x), gradients(model, model, x)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_export_without_gradients_records_the_sign_alone() -> None:
    model, x = network().eval(), torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        lean = torch.export.export(model, (x,))
    assert not [node for node in lean.graph.nodes if "sub" in str(node.target)]
    assert lean.module()(x).equal(model(x))


def test_torch_fx_keeps_binary_layers_whole() -> None:
    model, x = network().eval(), torch.randn(2, 3, 5, 5)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1", "2", "3"]
    assert traced(x).equal(model(x))
    ru.anneal(traced, 0.25)
    assert {layer.progress for _, layer in ru.binary_layers(traced)} == {0.25}


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg_small"])
def test_torchvisions_feature_extraction(name: str) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    model, x = ru.create(name).eval(), torch.randn(1, 3, 32, 32)
    nodes, _ = get_graph_node_names(model)
    layers = [layer for layer, _ in ru.binary_layers(model)]
    assert set(layers) <= set(nodes)
    seen = []
    dict(ru.binary_layers(model))[layers[2]].register_forward_hook(lambda module, inputs, out: seen.append(out.clone()))
    model(x)
    assert create_feature_extractor(model, [layers[2]])(x)[layers[2]].equal(seen[0])


def test_differentiating_twice_is_refused_whichever_way() -> None:
    layer, x = ru.BinaryConv2d(3, 4, 3), torch.randn(1, 3, 5, 5)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return layer(x).square().sum()

    def binarized(x: torch.Tensor) -> torch.Tensor:
        return ru.binarize(x, ru.ReSTE()).square().sum()

    for f in (loss, binarized):
        with pytest.raises(RuntimeError, match="twice"):
            torch.func.grad(lambda x, f=f: torch.func.grad(f)(x).sum())(x)
        leaf = x.clone().requires_grad_()
        (once,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="twice"):
            once.sum().backward()


def test_a_batchnorm_is_not_fused_into_latent_weights() -> None:
    norm = nn.BatchNorm2d(4).eval()
    for bias in (False, True):
        with pytest.raises(RuntimeError, match="BinaryConv2d takes no new bias"):
            torch.nn.utils.fusion.fuse_conv_bn_eval(ru.BinaryConv2d(3, 4, 3, bias=bias).eval(), norm)
