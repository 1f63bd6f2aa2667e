"""The file of a trained network: the same bytes for the same training, and a checksum that its record or card knows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resteutils.recipes import Recipe
from resteutils.system.defaults import torch_defaults

__all__ = ["loaded", "metadata", "serialized", "sha256"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def serialized(network: nn.Module, recipe: Recipe, top1: float, num_classes: int) -> bytes:
    """The network's tensors as a safetensors file that names recipe, run, top-1 and classes."""
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    about = {"run_id": recipe.run_id, "recipe": json.dumps(recipe.to_dict())}
    return _ordered(save(state, about | {"top1": f"{top1:.4f}", "num_classes": str(num_classes)}))


def _ordered(data: bytes) -> bytes:
    """The file with its metadata in the order of the keys: safetensors writes them in a new order each time."""
    header, tensors = _parts(data)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file (eight bytes of length, then JSON), and its tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself. Raises ``ValueError`` or ``KeyError`` where it says nothing."""
    return _parts(data)[0]["__metadata__"]


@torch_defaults()
def loaded(network: nn.Module, file: Path, known: str) -> nn.Module:
    """The network with the file's weights, loaded strictly. Raises ``RuntimeError`` where the file's SHA-256 is not
    the one that is known (empty: none is), or where it is damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = file.read_bytes()
    try:
        if known and sha256(data) != known:
            raise RuntimeError("its content does not match its checksum")
        state: dict[str, Tensor] = load(data)
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise RuntimeError(f"{file} is damaged or of another network ({str(error).splitlines()[0]})") from error
    return network
