"""What Weights & Biases keeps on this disk: the log of a run, as its own reader and ``wandb sync`` would find it."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def wandb_records(log: Path) -> list:
    """The records of a ``.wandb`` file: a LevelDB log, blocks of 32 KiB, chunks with checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2 as proto

    content, place, parts, records = log.read_bytes(), 7, b"", []
    assert content.startswith(b":W&B")
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # too little left in the block for a chunk
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, last
            records.append(proto.Record.FromString(parts))
            parts = b""
    return records


def values(items) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
