"""Files of packed networks: small, read back as they were, and refused where they are damaged, foreign or crafted."""

from __future__ import annotations

import pytest
import torch
from helpers.packable import trained

import resteutils as ru
from resteutils.items.deploy import LEAST_TIMES_SMALLER
from resteutils.onebit import model as packed


@pytest.mark.parametrize(("name", "limit"), [("resnet20", 60_000), ("resnet18", 2_300_000), ("vgg_small", 1_000_000)])
def test_file_is_small_and_gives_the_same_logits(tmp_path, name, limit):
    model = trained(name)
    small = ru.pack(model)
    path = small.save(tmp_path / "model.rbit")
    size = path.stat().st_size
    assert size == small.bytes < limit
    torch.save(ru.create(name, "32/32").state_dict(), tmp_path / "float.pt")
    assert (tmp_path / "float.pt").stat().st_size > LEAST_TIMES_SMALLER[name] * size
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(packed.load(path)(x), small(x))


def test_fields_that_this_program_does_not_know_are_kept(tmp_path):
    """The first files say ``float_bytes``."""
    small = ru.pack(trained("resnet20"))
    small.header["float_bytes"] = 1_090_000
    found = packed.load(small.save(tmp_path / "first.rbit"))
    assert found.header == small.header
    assert found.save(tmp_path / "again.rbit").read_bytes() == (tmp_path / "first.rbit").read_bytes()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = ru.pack(trained("resnet20")).save(tmp_path / "model.rbit")
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for position in (8 + size + 5, len(whole) - 1):  # a bit of the first tensor, a bit of the last
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (tmp_path / "damaged.rbit").write_bytes(damaged)
        with pytest.raises(packed.PackedFileError, match="checksum"):
            packed.load(tmp_path / "damaged.rbit")
    for content in (b"", b"hello", whole[:-100], whole[100:]):
        (tmp_path / "damaged.rbit").write_bytes(content)
        with pytest.raises(packed.PackedFileError, match="damaged"):
            packed.load(tmp_path / "damaged.rbit")
    changed = whole.replace(b'\\"model\\":\\"', b'\\"model\\":\\"r', 1)[:8] + whole[8:].replace(b"ResNet", b"ResNot")
    (tmp_path / "damaged.rbit").write_bytes(changed)
    with pytest.raises(packed.PackedFileError, match="checksum"):
        packed.load(tmp_path / "damaged.rbit")
    (tmp_path / "version.rbit").write_bytes(whole.replace(b'\\"version\\":1', b'\\"version\\":7'))
    with pytest.raises(packed.PackedFileError, match="version 7"):
        packed.load(tmp_path / "version.rbit")
    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(packed.PackedFileError, match="not a packed model"):
        packed.load(tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError, match="resteutils export RUN"):
        packed.load(tmp_path / "nowhere.rbit")


@pytest.mark.parametrize(
    ("step", "fields", "message"),
    [
        (20, {"skip": 1}, r"step 20: skips over to \(64, 8, 8\) from"),  # would read beyond its memory
        (1, {"source": 5}, "source = 5"),
        (2, {"skip": 0}, "skip = 0"),
        (1, {"kernel": [9, 9]}, "'bits' is .* expected"),
        (1, {"stride": [0, 0]}, "stride"),
        (1, {"padding": [2**40, 2**40]}, "padding"),
        (1, {"out": 17}, "expected torch.uint8"),
        (1, {"channels": 2**30}, "its source has 16"),
        (1, {"channels": 2**62}, "channels = .* is impossible"),
        (1, {"activations": 32}, "activations = 32 at 1/1"),
        (2, {"bits": False}, "step 3: its source is not kept in the form"),
        (1, {"do": "explode"}, "unknown operation 'explode'"),
        (1, {"more": 1}, "fields"),
        (1, {"relu": None}, "relu = None"),
    ],
)
def test_a_program_that_does_not_hold_together_is_refused(tmp_path, step, fields, message):
    """With a checksum that is right: the file is whole, and wrong."""
    small = ru.pack(trained("resnet20"))
    small.program.steps[step] |= fields
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel": [5000, 5000], "padding": [2500, 2500]}, "a kernel of 5000 with padding 2500 for a source of"),
        ({"kernel": [4, 4], "padding": [3, 3]}, "a kernel of 4 with padding 3"),
    ],
)
def test_a_pool_that_would_take_for_ever_is_refused(tmp_path, fields, message):
    small = ru.pack(trained("vgg_small"))
    next(step for step in small.program.steps if step["do"] == "max_pool").update(fields)
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


def test_many_large_values_are_refused_together(tmp_path, monkeypatch):
    from resteutils.onebit import check as program_check

    small = ru.pack(trained("resnet20"))
    monkeypatch.setattr(program_check, "_LARGEST", 100_000)  # each is smaller
    with pytest.raises(packed.PackedFileError, match="the values up to step 6 hold 1.*too many"):
        packed.load(small.save(tmp_path / "large.rbit"))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("2.gain", torch.ones(3), "expected torch.float32"),
        ("2.gain", torch.full((16,), torch.nan), "not finite"),
        ("1.bits", torch.zeros(16, 3, 3, 1, dtype=torch.uint8), "'bits' is"),
        ("0.weight", torch.ones(16, 3, 3, 3, dtype=torch.float64), "expected torch.float32"),
        ("99.w", torch.ones(1), "belong to no step"),
        ("2.gain", None, "'gain' is missing"),
    ],
)
def test_tensors_that_do_not_fit_the_program_are_refused(tmp_path, name, tensor, message):
    small = ru.pack(trained("resnet20"))
    small.program.tensors.pop(name, None)
    if tensor is not None:
        small.program.tensors[name] = tensor
    with pytest.raises(packed.PackedFileError, match=message):
        packed.load(small.save(tmp_path / "crafted.rbit"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("classes", ["a"]), ("classes", [1] * 10), ("input", [3, 0, 0]), ("input", ["a", 1, 1]), ("input", [3, 2**31, 9]),
     ("mean", [0.0]), ("std", [0.0] * 3), ("std", [float("nan")] * 3), ("bits", "9/9"), ("version", True)],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_refused(tmp_path, field, value):
    small = ru.pack(trained("resnet20"))
    small.header[field] = value
    with pytest.raises(packed.PackedFileError, match="version" if field == "version" else f"{field}|input|mean"):
        packed.load(small.save(tmp_path / "crafted.rbit"))
