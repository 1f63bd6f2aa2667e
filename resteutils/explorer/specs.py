"""What the page must know of each estimator: its names, bounds and words, taken from the Python class."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields
from typing import Any

import torch

from resteutils.estimators import ESTIMATORS, Estimator
from resteutils.estimators.base import PATHS

__all__ = ["accepts", "field_bounds", "specs"]

# Ranges that the defaults do not tell: from the straight-through estimator to nearly sign, and where weights lie.
_USUAL = {"o": (1.0, 100.0), "t": (0.2, 2.0), "m": (0.01, 0.5)}
_STEPS = {"t": 0.05, "m": 0.01}
_SEARCH = 2000  # a range is searched for what the class accepts in at most so many steps
LIMIT, SAMPLES = 2.0, 801


def accepts(cls: type[Estimator], **values: Any) -> bool:
    """Whether ``cls`` takes ``values``, its other parameters being the defaults."""
    try:
        cls(**values)
    except ValueError:
        return False
    return True


def field_bounds(cls: type[Estimator], name: str) -> tuple[float, float, float]:
    """(lowest, highest, step) of a slider around the default of a numeric field, within what the class accepts."""
    default = next(field.default for field in fields(cls) if field.name == name)
    known = _USUAL.get(name, ()) if name == "o" or "m" in {field.name for field in fields(cls)} else ()
    low, high = known or (default - 2 * max(abs(default), 1), default + 2 * max(abs(default), 1))
    whole = isinstance(default, int)
    step = 1 if whole else 10.0 ** math.floor(math.log10((high - low) / 50))
    step = _STEPS.get(name, step) if known else step
    ends = [_last_accepted(cls, name, default, direction * step, limit) for direction, limit in ((-1, low), (1, high))]
    return ends[0], ends[1], 0.01 if name == "o" else step


def _last_accepted(cls: type[Estimator], name: str, default: float, step: float, limit: float) -> float:
    """The furthest multiple of ``step`` from the default, up to ``limit``, that the class still takes."""
    if not isinstance(default, int) and accepts(cls, **{name: limit}):
        return round(limit, 10)
    value = default
    for _ in range(_SEARCH):
        further = value + step if isinstance(default, int) else round(value + step, 10)
        if (further - limit) * step > 1e-9 * abs(step) or not accepts(cls, **{name: further}):
            break
        value = further
    return value


def specs() -> list[dict[str, Any]]:
    """Every registered estimator as plain JSON values; one without a formula in the page brings sampled values."""
    return [_spec(cls) for cls in ESTIMATORS.values()]


def _spec(cls: type[Estimator]) -> dict[str, Any]:
    about = inspect.cleandoc(cls.__doc__ or cls.label).split("\n\n")[0]
    known = cls.__module__.startswith("resteutils.estimators")
    spec: dict[str, Any] = {
        "name": cls.name,
        "label": cls.label,
        "about": " ".join(about.split()).replace("\\|", "|").replace("``", ""),
        "fields": [_field(cls, field.name, field.default) for field in fields(cls)] if known else [],
    }
    if not known:
        z = torch.linspace(-LIMIT, LIMIT, SAMPLES, dtype=torch.float64)
        e = cls()
        values = {"f": e.surrogate(z).tolist(), "d": e.derivative(z).tolist()}
        spec["table"] = {"low": -LIMIT, "high": LIMIT, **values}
    return spec


def _field(cls: type[Estimator], name: str, default: Any) -> dict[str, Any]:
    if isinstance(default, str):
        options = [path for path in PATHS if accepts(cls, **{name: path})]
        return {"name": name, "label": name, "default": default, "options": options}
    low, high, step = field_bounds(cls, name)
    log = name == "o"
    if isinstance(default, float) and 0 < default <= 0.05 and not accepts(cls, **{name: 0.0}):
        low, high, log = 10.0 ** (round(math.log10(default)) - 1), 1.0, True
        step = low
    words = (
        {"o": "power o", "t": "saturation t", "m": "end of the chord m"} if cls.name in ("reste", "ste_gain") else {}
    )
    field = {"name": name, "label": words.get(name, name), "default": default, "low": low, "high": high, "step": step}
    field |= {"log": log, "whole": isinstance(default, int)}
    if above := _stays_below(cls, name):
        field["below"] = above
    return field


def _stays_below(cls: type[Estimator], name: str) -> str:
    """The field that ``name`` must stay below, as m below t: refused at its value, accepted where it is larger."""
    for other in fields(cls):
        limit = other.default
        if other.name == name or isinstance(limit, str) or accepts(cls, **{name: limit}):
            continue
        if accepts(cls, **{name: limit, other.name: limit + 1}):
            return other.name
    return ""
