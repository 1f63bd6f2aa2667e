"""Networks of :func:`resteutils.create` on the Hugging Face Hub: a folder of ``config.json``, ``model.safetensors`` and
a card, written and read by huggingface_hub's own mixin (``pip install 'resteutils[hub]'``).

    from resteutils.models.hub import HubModel

    model = HubModel.of(run.model(), run.recipe)      # or HubModel("resnet20", bits="1/1")
    model.save_pretrained("folder")                   # model.push_to_hub("user/name") writes the same to the Hub
    model = HubModel.from_pretrained("folder")        # or "user/name"

A network of your own takes the same mixin on a class of yours, which makes it binary where it is built:

    class Network(nn.Module, huggingface_hub.PyTorchModelHubMixin):
        def __init__(self, width: int = 16, bits: str = "1/1"):     # what config.json keeps
            super().__init__()
            self.network = ru.binarize_model(build(width), ru.ReSTE(), bits, activation=nn.Hardtanh)

        def forward(self, x):
            return self.network(x)

    Network(width=32).push_to_hub("user/name")
    model = Network.from_pretrained("user/name")      # latent weights, and each layer's place on its path
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resteutils.estimators import Estimator
from resteutils.estimators import estimator as by_name
from resteutils.models import create

__all__ = ["HubModel"]  # noqa: F822 - made on first use

FIELDS = ("bits", "num_classes", "image_size", "in_channels", "scale", "scale_order", "standardize")


def _estimator(value: Estimator | dict[str, Any] | None) -> Estimator | None:
    return by_name(**value) if isinstance(value, dict) else value


@functools.cache
def _hub_model() -> type[nn.Module]:
    """The class, made on first use: huggingface_hub is an extra."""
    try:
        from huggingface_hub import PyTorchModelHubMixin
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the Hub needs huggingface_hub: pip install 'resteutils[hub]'", name="huggingface_hub"
        ) from error

    template = (Path(__file__).parent / "templates" / "hub_card.md").read_text(encoding="utf-8")
    about = {"library_name": "resteutils", "license": "mit", "tags": ["binary-neural-network"]}

    class HubModel(nn.Module, PyTorchModelHubMixin, model_card_template=template, **about):
        """A network of :func:`resteutils.create` in ``network``, which the Hub's mixin writes and reads.

        Arguments as those of :func:`resteutils.create`; estimators may be dictionaries of their name and parameters.
        Weights are loaded strictly, each binary layer's place on its path with them.
        """

        def __init__(
            self,
            name: str = "resnet20",
            estimator: Estimator | dict[str, Any] | None = None,
            input_estimator: Estimator | dict[str, Any] | None = None,
            **options: Any,
        ) -> None:
            super().__init__()
            estimators = {"estimator": _estimator(estimator), "input_estimator": _estimator(input_estimator)}
            self.network = create(name, **estimators, **options)
            plain = {key: value.to_dict() for key, value in estimators.items() if value is not None}
            self._hub_mixin_config = {"name": name, **plain, **options}

        def forward(self, images: Tensor) -> Tensor:
            """Return logits (N, num_classes) of normalised images (N, C, H, W)."""
            return self.network(images)

        @classmethod
        def of(cls, network: nn.Module, recipe: Any) -> HubModel:
            """Wrap a trained network of a recipe (:class:`resteutils.Recipe`)."""
            options = {field: getattr(recipe, field) for field in FIELDS}
            made = cls(recipe.model, recipe.estimator, recipe.input_estimator, **options)
            made.network.load_state_dict(network.state_dict(), strict=True)
            return made.eval()

    HubModel.__module__, HubModel.__qualname__ = __name__, "HubModel"
    return HubModel


def __getattr__(name: str) -> Any:
    if name == "HubModel":
        return _hub_model()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
