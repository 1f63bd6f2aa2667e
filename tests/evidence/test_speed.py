"""The tables of speed print what the benchmark's CSV says, of the networks that it has."""

from __future__ import annotations

from pathlib import Path

from resteutils.evidence.speed import MEASURED, TABLES, TWIN, blocks

HEAD = "case,variant,against,ratio,low,high"
ROWS = [
    ("resnet20", "packed file", "INT8, OpenVINO file", 0.125, 0.125, 0.125),
    ("resnet20, 512 images", "INT8, OpenVINO", "its network in torch", 0.75, 0.75, 0.75),
    ("resnet20, 512 images", "packed", "its network in torch", 1, 1, 1),
    ("resnet20, batch 64, 1 thread", "packed", "INT8, OpenVINO", 0.5, 0.4, 0.8),
    ("resnet20, batch 64, 1 thread", "packed", "INT8, onnxruntime", 0.25, 0.2, 0.4),
    ("resnet20 batch 128, 1 thread", TABLES, TWIN, 0.76, 0.7, 0.8),
    ("resnet20 batch 128, 1 thread", TABLES.removesuffix(", table gradients"), TWIN, 1.02, 1, 1.2),
]


def test_tables_of_speed_print_the_measured_rows(tmp_path: Path) -> None:
    assert blocks(tmp_path) == {}
    file = tmp_path / MEASURED
    file.parent.mkdir(parents=True)
    file.write_text("\n".join([HEAD, *(",".join(f'"{cell}"' for cell in row) for row in ROWS)]) + "\n")
    found = blocks(tmp_path)
    cells = ["ResNet-20", "INT8, OpenVINO", "not measured", "2.00 times faster [1.25, 2.50]", "8.0 times smaller"]
    line = "| " + " | ".join([*cells, "75%, packed 100%"]) + " |"
    assert found["speed-int8"].splitlines()[2:] == [line]
    assert found["speed-step"].splitlines()[2:] == ["| ResNet-20 | 1.02 [1.00, 1.20] | 0.76 [0.70, 0.80] |"]
    assert "| ResNet-20 on bits, batch 64 | INT8, OpenVINO | 2.00 times faster [1.25, 2.50] |" in found["speed-front"]
    assert "gradients by tables | float twin, compiled | 0.76 of its time |" in found["speed-front"]
