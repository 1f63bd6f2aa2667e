"""The tables of docs/speed.md and README that print what the benchmark measured, from its committed CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MEASURED", "blocks"]

MEASURED = Path("bench") / "avx2-busy" / "bench.csv"  # below the results folder
NETWORKS = {"resnet20": "ResNet-20", "resnet18": "ResNet-18", "vgg_small": "VGG-small"}
RIVALS = ("INT8, OpenVINO", "INT8, onnxruntime", "float32, onnxruntime")
TWIN, PACKED = "float twin, compiled", "ours, compiled, packed forward"
TABLES = f"{PACKED}, table gradients"
Row = dict[str, str]


def blocks(results: Path) -> dict[str, str]:
    """Every block by name, as Markdown, of the networks that were measured; none where there is no CSV."""
    file = results / MEASURED
    if not file.is_file():
        return {}
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {"speed-int8": _beside_int8(rows), "speed-step": _steps(rows), "speed-front": _front(rows)}


def _beside_int8(rows: list[Row]) -> str:
    lines = []
    for name, network in NETWORKS.items():
        own = _find(rows, name, "packed", "its network in torch")
        for rival in RIVALS:
            file = _find(rows, name, "packed file", f"{rival} file")
            same = _find(rows, name, rival, "its network in torch")
            if not (own and file and same):
                continue
            speed = [_faster(_find(rows, f"{name}, batch {batch}, 1", "packed", rival)) for batch in (1, 64)]
            classes = f"{float(same['ratio']):.0%}, packed {float(own['ratio']):.0%}"
            lines.append([network, rival, *speed, f"{1 / float(file['ratio']):.1f} times smaller", classes])
    return _table(["network", "packed bits against", "batch 1", "batch 64", "file", "same classes as in float"], lines)


def _steps(rows: list[Row]) -> str:
    lines = []
    for name, network in NETWORKS.items():
        found = [_find(rows, f"{name} batch", variant, TWIN) for variant in (PACKED, TABLES)]
        if all(found):
            lines.append([network, *map(_quartiles, found)])
    return _table(["training step, compiled", "packed forward pass", "and gradients by tables"], lines)


def _front(rows: list[Row]) -> str:
    steps = {name: _find(rows, f"{name} batch", TABLES, TWIN) for name in NETWORKS}
    lines = [
        [f"training step of {NETWORKS[name]}, forward pass on bits, gradients by tables", TWIN,
         f"{float(row['ratio']):.2f} of its time"]
        for name, row in steps.items() if row
    ]  # fmt: skip
    for batch in (1, 64):
        row = _find(rows, f"resnet20, batch {batch}, 1", "packed", RIVALS[0])
        lines.append([f"ResNet-20 on bits, batch {batch}", RIVALS[0], _faster(row)])
    return _table(["what", "against", "ratio"], lines)


def _find(rows: list[Row], case: str, variant: str, against: str) -> Row | None:
    """The row of these two whose case begins with this."""
    found = (r for r in rows if (r["variant"], r["against"]) == (variant, against) and r["case"].startswith(case))
    return next(found, None)


def _faster(row: Row | None) -> str:
    if row is None:
        return "not measured"
    low, middle, high = (1 / float(row[name]) for name in ("high", "ratio", "low"))
    return f"{middle:.2f} times faster [{low:.2f}, {high:.2f}]"


def _quartiles(row: Row) -> str:
    return f"{float(row['ratio']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))
