"""What makes a record count: strict JSON, a checksum over its own content, fields that fit together, and numbers that
can be: an accuracy lies in [0, 100].

The checksum is the SHA-256 of the record without it, as JSON with sorted keys and no blanks. Records from before there
was one carry none and are held to everything else.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from resteutils.recipes import Recipe

__all__ = ["CHECKSUM", "checksum", "parsed", "problem", "sealed", "fields_problem"]

CHECKSUM = "sha256"
REQUIRED = ("schema", "run_id", "identity", "recipe", "history", "provenance")
OPTIONAL = ("result", "diverged", "model_sha256", CHECKSUM)
PERCENT = ("top1", "top5", "best_top1", "train_top1", "test_top1", "test_top5")
ORIGIN = {"commit": str, "created": str, "versions": dict, "machine": dict}


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are told apart: of two columns of one name a reader would take the last in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {', '.join(name for name in found if names.count(name) > 1)} twice")
    return found


# Made once: thousands of records are read at a time.
_STRICT = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def parsed(text: str) -> Any:
    """JSON as the standard has it. Raises ``ValueError`` for NaN and Infinity too, for a name that an object has twice,
    and for nesting without end."""
    try:
        return _STRICT.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def checksum(content: dict[str, Any]) -> str:
    """The SHA-256 of a JSON object without its own checksum, independent of the order of its keys."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(_CANONICAL.encode(rest).encode("ascii")).hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The same with its checksum."""
    return {**content, CHECKSUM: checksum(content)}


def fields_problem(content: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> str:
    """What is wrong with a JSON object's fields or its checksum; "" where nothing is."""
    if not isinstance(content, dict):
        return f"it is a {type(content).__name__}, not an object"
    if lacking := [name for name in required if name not in content]:
        return f"it has no {', '.join(lacking)}"
    if unknown := sorted({*content} - {*required, *optional}):
        return f"it has unknown fields: {', '.join(unknown)}"
    if CHECKSUM in content and content[CHECKSUM] != checksum(content):
        return "its content does not match its checksum: it was damaged or edited"
    return ""


def problem(record: dict[str, Any], recipe: Recipe) -> str:
    """Why a record whose fields and checksum are in order does not count all the same; "" where it does."""
    if record["identity"] != recipe.identity:
        return f"it is of {record['identity']}, its recipe is {recipe.identity}: from another version of the recipe"
    if record["run_id"] != recipe.run_id:
        return f"it is called {record['run_id']}, its recipe is of {recipe.run_id}"
    if not isinstance(record["history"], dict) or not isinstance(record["provenance"], dict):
        return "its history or its provenance is no object"
    if not isinstance(record.get("model_sha256", ""), str):
        return "model_sha256 is no text"
    if lacking := [name for name, kind in ORIGIN.items() if not isinstance(record["provenance"].get(name), kind)]:
        return f"its provenance has no {', '.join(lacking)}"
    ended = "diverged" in record
    if ended == ("result" in record) or not isinstance(record.get("diverged", ""), str):
        return "it says neither how it finished nor why it diverged"
    return _history(record["history"], recipe.epochs, ended) or ("" if ended else _result(record, recipe.epochs))


def _history(history: dict[str, list], epochs: int, part: bool) -> str:
    lengths = {len(column) for column in history.values()}
    count = len(history.get("epoch", []))
    if len(lengths) > 1:
        return f"the columns of its history are of {', '.join(map(str, sorted(lengths)))} epochs"
    if history.get("epoch", []) != [*range(1, count + 1)] or count > epochs or (count < epochs and not part):
        return f"its history is of {count} epochs, expected {epochs}"
    return next((text for name, column in history.items() for value in column if (text := _odd(name, value))), "")


def _result(record: dict[str, Any], epochs: int) -> str:
    result, history = record["result"], record["history"]
    if lacking := [name for name in ("train_loss", "test_top1", "test_top5") if not history.get(name)]:
        return f"its history has no {', '.join(lacking)}"
    whole = {"best_epoch": epochs, "epochs": epochs, "num_classes": math.inf}
    for name in ("top1", "top5", "best_top1", "seconds", *whole):
        if not isinstance(result.get(name), int if name in whole else float):
            return f"its result's {name} is {result.get(name)!r}, expected a number"
    for name, most in whole.items():
        if not 1 <= result[name] <= most:
            return f"its result's {name} is {result[name]}, expected 1 to {most}"
    if result["epochs"] != epochs or result["top1"] > min(result["best_top1"], result["top5"]):
        return "its result contradicts itself"
    last = {name: column[-1] for name, column in history.items() if name != "seconds"}
    top1 = history["test_top1"]
    said = last | {"top1": top1[-1], "top5": last["test_top5"], "best_top1": max(top1)}
    for name in said.keys() & result.keys():
        if result[name] != said[name]:
            return f"its result's {name} is {result[name]}, but {said[name]} in its history"
    if top1[result["best_epoch"] - 1] != result["best_top1"]:
        return f"its result's best_epoch is {result['best_epoch']}, whose top1 is {top1[result['best_epoch'] - 1]}"
    return next((text for name, value in result.items() if (text := _odd(name, value))), "")


def _odd(name: str, value: Any) -> str:
    """What cannot be: anything but a finite number or None, an accuracy outside 0 to 100, time that runs backwards."""
    if value is None and name not in PERCENT:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{name} is {value!r}, expected a number"
    low, high = (0, 100) if name in PERCENT else (0 if name == "seconds" else -math.inf, math.inf)
    return "" if low <= value <= high else f"{name} is {value}, expected {low} to {high}"
