"""The file of a packed network, ``.rbit``: bytes from a header and a program, and back.

It is a safetensors file whose metadata holds one entry, ``resteutils-packed``: JSON with

- ``version``: of this format, 1
- ``model``, ``bits``, ``classes`` (names), ``input`` (C, H, W), ``mean`` and ``std`` (of pixels in [0, 1], per channel;
  empty where it is not known)
- ``run_id``, ``recipe`` (the identity's hash), ``dataset``, ``top1`` (in %, as the run measured it)
- ``steps``: the program, see :mod:`resteutils.onebit.program`; tensor ``"3.bits"`` belongs to step 3
- ``sha256``: of everything above and every tensor

Other fields are kept as they are: the first files also hold ``float_bytes``, the size of the float twin's weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import torch
from torch import Tensor

from resteutils.onebit.program import Program

__all__ = ["VERSION", "PackedFileError", "parsed", "serialised"]

VERSION = 1
_KEY = "resteutils-packed"
_FIELDS = {
    **dict.fromkeys(("model", "bits", "run_id", "recipe", "dataset", "sha256"), str),
    **dict.fromkeys(("classes", "input", "mean", "std", "steps"), list),
    "version": int,
    "top1": float,
}


class PackedFileError(ValueError):
    """Not a packed model, damaged, or of a version that this program does not know."""


def serialised(header: dict[str, Any], program: Program) -> bytes:
    """The file: ``header`` without ``steps`` and ``sha256``, which are added here."""
    from safetensors.torch import save

    header = {**header, "steps": program.steps}
    header["sha256"] = _digest(header, program.tensors)
    return save(program.tensors, {_KEY: json.dumps(header, separators=(",", ":"))})


def parsed(data: bytes, path: str | os.PathLike) -> tuple[dict[str, Any], Program]:
    """What :func:`serialised` was given; whether header and program fit each other is not looked at.

    Raises :class:`PackedFileError`, naming ``path``, for anything that is not a whole file of a known version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise PackedFileError(f"{path} is not a safetensors file, or it is damaged ({error})") from error
    if _KEY not in metadata:
        raise PackedFileError(
            f"{path} is a safetensors file, but not a packed model; write one with `resteutils export RUN`"
        )
    header = _checked_header(path, metadata[_KEY])
    if header.pop("sha256") != _digest(header, tensors):
        raise PackedFileError(f"{path} is damaged: its contents do not match its checksum; export it again")
    return header, Program(header.pop("steps"), tensors)


def _checked_header(path: str | os.PathLike, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackedFileError(f"{path} is damaged: its header is not JSON ({error})") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        found = header.get("version") if isinstance(header, dict) else header
        raise PackedFileError(f"{path} is of format version {found!r}; this program reads version {VERSION}")
    for name, kind in _FIELDS.items():
        if type(header.get(name)) is not kind:
            raise PackedFileError(
                f"{path} is damaged: header field {name!r} is {header.get(name)!r}, expected {kind.__name__}"
            )
    return header


def _digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
