"""A folder as the Hub has them, written and read by huggingface_hub's mixin without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import resteutils as ru


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("huggingface_hub", reason="pip install 'resteutils[hub]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from resteutils.models.hub import HubModel

    return HubModel


def test_a_folder_is_written_and_read(hub, tmp_path: Path) -> None:
    recipe = ru.recipe("table1/resnet20-1w1a", "smoke", estimator=ru.ReSTE(o=2), input_estimator=ru.STE(clip=1.5))
    trained = ru.create(
        recipe.model, recipe.bits, recipe.estimator, recipe.input_estimator, image_size=recipe.image_size,
        in_channels=recipe.in_channels,
    )  # fmt: skip
    ru.anneal(trained, 0.3)
    hub.of(trained, recipe).save_pretrained(tmp_path / "it")
    assert {path.name for path in (tmp_path / "it").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    config = json.loads((tmp_path / "it" / "config.json").read_text())
    assert (config["name"], config["bits"]) == ("resnet20", "1/1")
    assert config["estimator"] == ru.ReSTE(o=2).to_dict()
    card = (tmp_path / "it" / "README.md").read_text()
    assert "library_name: resteutils" in card and "license: mit" in card

    read = hub.from_pretrained(tmp_path / "it")
    (_, layer), *_ = ru.binary_layers(read.network)
    assert (layer.estimator, layer.input_estimator, layer.progress) == (ru.ReSTE(o=2), ru.STE(clip=1.5), 0.3)
    x = torch.randn(2, recipe.in_channels, recipe.image_size, recipe.image_size)
    with torch.no_grad():
        assert read.eval()(x).equal(trained.eval()(x))


def test_a_network_of_one_s_own_takes_the_mixin(hub, tmp_path: Path) -> None:
    """As the module's docstring says."""
    from huggingface_hub import PyTorchModelHubMixin

    class Network(nn.Module, PyTorchModelHubMixin):
        def __init__(self, width: int = 4, bits: str = "1/1") -> None:
            super().__init__()
            layers = [nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Linear(width, 2)]
            self.network = ru.binarize_model(
                nn.Sequential(*layers), ru.ReSTE(), bits, activation=nn.PReLU, weight_scale=0.25
            )

        def forward(self, x):
            return self.network(x)

    model = Network(width=6, bits="1/32")
    ru.anneal(model, 0.3)
    model.save_pretrained(tmp_path / "it")
    assert json.loads((tmp_path / "it" / "config.json").read_text()) == {"width": 6, "bits": "1/32"}
    read = Network.from_pretrained(tmp_path / "it")
    assert [(layer.progress, layer.binarize_input) for _, layer in ru.binary_layers(read)] == [(0.3, False)]
    assert read.network[2].weight.equal(model.network[2].weight)  # a binary state: not scaled again
    x = torch.randn(2, 4)
    assert read(x).equal(model(x))
    assert ru.restore_model(read).network[2].weight.equal(model.network[2].weight * 4)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.models import hub

    hub._hub_model.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"resteutils\[hub\]"):
        _ = hub.HubModel
    assert not hasattr(hub, "Other")
