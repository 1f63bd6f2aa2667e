"""A recipe: everything that decides the result of one training run, and its identity."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
import re
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from resteutils.data.base import AUGMENTATIONS, NORMALIZATIONS
from resteutils.data.reading import READERS
from resteutils.data.sources import DATASETS
from resteutils.estimators import ESTIMATORS, Estimator, ReSTE, Unregistered, estimator
from resteutils.models import BITS, MODELS
from resteutils.nn.binarize import SCALE_ORDERS, SCALES
from resteutils.recipes.profiles import PROFILES
from resteutils.system.settings import settings

OTHER_NAMES = {"learning_rate": "lr", "wd": "weight_decay", "bs": "batch_size", "arch": "model", "data": "dataset"}
LABELS = ("item", "row", "profile")
EXECUTION = (
    "compile", "channels_last", "packed_forward", "table_gradients", "eval_batch_size", "workers", "checkpoint_minutes",
)  # fmt: skip
OPTIMIZERS = ("sgd", "adam", "adamw")
COMPILE = ("auto", "off", "default", "reduce-overhead", "max-autotune", "whole-step")


def _choice(*accepted: str, default: str) -> Any:
    return field(default=default, metadata={"accepted": accepted})


def _at_least(low: float, default: float, *, strict: bool = False, below: float = math.inf) -> Any:
    return field(default=default, metadata={"low": low, "strict": strict, "below": below})


@dataclass(frozen=True)
class Recipe:
    """One training run, complete. Any field can be overridden in :func:`recipe`; wrong values raise ``ValueError``.

    Fields whose default changes the result may only be added, never change their default: the identity leaves out what
    is at its default, so that a new field keeps the identity of old runs.
    """

    # labels, not in the identity
    item: str = ""
    row: str = ""
    profile: str = _choice(*PROFILES, default="demo")
    # network
    model: str = field(default="resnet20", metadata={"accepted": MODELS, "registry": True})  # it may grow
    bits: str = _choice(*BITS, default="1/1")
    estimator: Estimator | None = ReSTE()
    input_estimator: Estimator | None = None
    scale: str = _choice(*SCALES, default="layer")
    scale_order: str = _choice(*SCALE_ORDERS, default="after")
    standardize: bool = False
    weight_scale: float = _at_least(0, 1.0, strict=True)  # times the binary layers' latent weights at the start
    num_classes: int = _at_least(0, 10)  # 0: as many as the folder of images has
    image_size: int = _at_least(1, 32)
    in_channels: int = _at_least(1, 3)
    # data
    dataset: str = field(default="cifar10", metadata={"accepted": DATASETS, "registry": True})  # it may grow
    train_size: int = _at_least(0, 0)  # 0: all
    test_size: int = _at_least(0, 0)
    holdout: int = _at_least(0, 0)  # images taken from training to evaluate on, instead of the test set
    augment: str = _choice(*AUGMENTATIONS, default="crop-flip")
    padding: int = _at_least(0, 4)
    normalization: str = _choice(*NORMALIZATIONS, default="imagenet")
    decoder: str = _choice(*READERS, default="pillow")  # of image files; the others give other pixels
    # optimisation
    epochs: int = _at_least(1, 1000)
    batch_size: int = _at_least(2, 256)  # all processes together
    accumulate: int = _at_least(1, 1)  # parts that a batch is cut into, for GPUs that cannot hold it
    optimizer: str = _choice(*OPTIMIZERS, default="sgd")
    lr: float = _at_least(0, 0.1, strict=True)
    momentum: float = _at_least(0, 0.9)  # of Adam and AdamW the first beta; the second is 0.999
    weight_decay: float = _at_least(0, 1e-4)  # on all parameters, as the authors'; decoupled from the step in AdamW
    warmup_epochs: float = _at_least(0, 5.0)
    schedule: str = _choice("epoch", "step", default="epoch")
    precision: str = _choice("fp32", "tf32", "bf16", default="fp32")
    sync_bn: bool = True  # over processes, on GPUs
    deterministic: bool = False  # torch.use_deterministic_algorithms; a run on a CPU repeats exactly anyway
    seed: int = _at_least(0, 0, below=2**64)  # as torch's generators
    # execution, not in the identity
    compile: str = _choice(*COMPILE, default="auto")
    channels_last: str = _choice("auto", "on", "off", default="auto")
    packed_forward: bool | None = None  # the forward pass on packed bits, the same integers; None: where it is faster
    table_gradients: bool | None = None  # sums in another order, equal to rounding; None: where it is faster
    eval_batch_size: int = _at_least(1, 500)
    workers: int = _at_least(-1, -1)  # that decode image files; -1: a core each, shared by this machine's runs
    checkpoint_minutes: float = _at_least(0, 10.0)

    def __post_init__(self) -> None:
        for entry in _FIELDS:
            value = getattr(self, entry.name)
            if type(value) is not type(entry.default) or value != entry.default:  # a default is accepted as it is
                self._check(entry, value)
        if self.bits == "32/32":  # the float twin has no estimator: all twins of a network are one run
            object.__setattr__(self, "estimator", None)
            object.__setattr__(self, "weight_scale", 1.0)
        elif self.estimator is None:
            raise ValueError(f"estimator = None, expected an estimator at bits = {self.bits!r}")
        if self.bits != "1/1" or self.input_estimator == self.estimator:
            object.__setattr__(self, "input_estimator", None)
        if self.optimizer != "sgd" and self.momentum >= 1:
            raise ValueError(f"momentum = {self.momentum}, expected below 1 with optimizer = {self.optimizer!r}")
        if self.padding > (most := max(2 * self.image_size, Recipe.padding)):  # nearly every crop would be empty
            raise ValueError(f"padding = {self.padding}, expected at most {most}, twice the size of an image")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs}, expected at most epochs = {self.epochs}")

    def _check(self, entry: Field, value: Any) -> None:
        name, accepted, low = entry.name, entry.metadata.get("accepted"), entry.metadata.get("low")
        if accepted and not (isinstance(value, str) and value in accepted):
            said = f"{name} = {value!r}, expected one of {', '.join(accepted)}"
            raise Unregistered(name, str(value), said) if "registry" in entry.metadata else ValueError(said)
        if low is not None:
            whole = entry.type == "int"
            number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
            strict = entry.metadata["strict"]
            if not number or not math.isfinite(value) or value < low or (strict and value == low):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{name} = {value!r}, expected {kind} {'above' if strict else 'of at least'} {low}")
            if value >= entry.metadata["below"]:
                raise ValueError(f"{name} = {value!r}, expected a number below {entry.metadata['below']}")
            object.__setattr__(self, name, int(value) if whole else float(value))
        if entry.type == "bool" and not isinstance(value, bool):
            raise ValueError(f"{name} = {value!r}, expected True or False")
        if entry.type == "bool | None" and not isinstance(value, bool | None):
            raise ValueError(f"{name} = {value!r}, expected True, False or None (where it is faster)")
        if name in LABELS and not isinstance(value, str):
            raise ValueError(f"{name} = {value!r}, expected text")
        if name in ("estimator", "input_estimator") and value is not None and not isinstance(value, Estimator):
            raise ValueError(f"{name} = {value!r}, expected an estimator such as ReSTE(o=3)")

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; ``Recipe.from_dict`` reads them back."""
        out = {}
        for entry in _FIELDS:
            value = getattr(self, entry.name)
            out[entry.name] = value.to_dict() if isinstance(value, Estimator) else value
        return out

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`. Raises ``ValueError`` for unknown fields."""
        return cls(**parsed(values))

    @functools.cached_property
    def identity(self) -> str:
        """12 hexadecimal digits: a hash of every field that changes the result, except the seed."""
        return hashlib.sha256(json.dumps(self.identifying(), sort_keys=True).encode()).hexdigest()[:12]

    def identifying(self) -> dict[str, Any]:
        """The fields that make the identity: those that change the result and are not at their default."""
        mine = self.to_dict()
        return {name: mine[name] for name in _differing(mine, _DEFAULTS)}

    def changed(self, usual: Recipe) -> list[str]:
        """``NAME = VALUE`` of every field that changes the result and is not as in ``usual``."""
        return [f"{name} = {getattr(self, name)}" for name in _differing(self.to_dict(), usual.to_dict())]

    @functools.cached_property
    def run_id(self) -> str:
        """Readable and unique, e.g. ``resnet20-1w1a-reste3-cifar10-10ep-1a2b3c4d5e6f-s0``: folder and W&B id."""
        weights, activations = self.bits.split("/")
        parts = [self.model.replace("_", "-"), f"{weights}w{activations}a"]
        if self.estimator is not None:
            power = f"{self.estimator.o:g}" if hasattr(self.estimator, "o") else ""
            parts.append(self.estimator.name.replace("_", "-") + power)
        return "-".join([*parts, self.dataset, f"{self.epochs}ep", self.identity, f"s{self.seed}"])

    @property
    def name(self) -> str:
        """``item/row``, e.g. ``table1/resnet20-1w1a``."""
        return f"{self.item}/{self.row}" if self.item else self.row


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The fields that change the result, except the seed, and that two recipes do not share."""
    return [name for name in mine if mine[name] != theirs[name] and name not in (*LABELS, *EXECUTION, "seed")]


def _estimator(text: str) -> Estimator:
    """``reste`` or ``reste(o=5, t=1.5)``."""
    call = re.fullmatch(r"\s*([\w.-]+)\s*(?:\((.*)\))?\s*", text)
    if call is None:
        raise ValueError(f"{text!r} is no estimator, expected a name such as reste, or reste(o=5)")
    return estimator(call[1], **settings(call[2] or ""))


def parsed(values: dict[str, Any]) -> dict[str, Any]:
    """Overrides as they come from JSON, notebooks or a command line; estimators may be names or dicts."""
    known = Recipe.__dataclass_fields__
    overrides = dict(values)
    for name, value in values.items():
        if name not in known:
            owners = [key for key, cls in ESTIMATORS.items() if name in [entry.name for entry in fields(cls)]]
            hint = f"; an estimator has it: estimator={owners[0]}({name}={value})" if owners else ""
            near = OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), "")
            hint += f"; did you mean {near}?" if near and not owners else ""
            raise ValueError(f"a recipe has no field {name!r}; it has: {', '.join(known)}{hint}")
        if name in ("estimator", "input_estimator"):
            if isinstance(value, str):
                overrides[name] = _estimator(value)
            elif isinstance(value, dict):
                if "name" not in value:
                    raise ValueError(f'{name} = {value!r} has no name, expected e.g. {{"name": "reste", "o": 3}}')
                overrides[name] = estimator(**value)
    return overrides


_FIELDS = fields(Recipe)
_DEFAULTS = Recipe().to_dict()
