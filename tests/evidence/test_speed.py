"""The tables of speed print what the benchmark's CSV says, of the networks that it has."""

from __future__ import annotations

from pathlib import Path

from resteutils.evidence.speed import AUTHORS, MEASURED, PACKED, TABLES, TWIN, blocks

HEAD = "group,case,variant,against,ratio,low,high,target,reached"
STEP = "resnet20 batch 128"
ROWS = [
    ("int8", "resnet20", "packed file", "INT8, OpenVINO file", 0.125, 0.125, 0.125, "", ""),
    ("int8", "resnet20, 512 images", "INT8, OpenVINO", "its network in torch", 0.75, 0.75, 0.75, "", ""),
    ("int8", "resnet20, 512 images", "packed", "its network in torch", 1, 1, 1, "", ""),
    ("int8", "resnet20, batch 64, 1 thread", "packed", "INT8, OpenVINO", 0.5, 0.4, 0.8, 1, True),
    ("int8", "resnet20, batch 64, 1 thread", "packed", "INT8, onnxruntime", 0.25, 0.2, 0.4, "", ""),
    ("step", STEP, TABLES, TWIN, 0.76, 0.7, 0.8, 0.98, True),
    ("step", STEP, PACKED, TWIN, 1.02, 1, 1.2, "", ""),
    ("step", STEP, "ours, compiled", AUTHORS, 0.4, 0.3, 0.5, 0.37, False),
    (
        "gradients",
        "16 channels",
        "gradient of the input, tables",
        "gradient of the input, oneDNN",
        0.5,
        0.4,
        0.8,
        "",
        "",
    ),
    ("gradients", "16 channels", "gradient of the weights, tables", "oneDNN", 0.25, 0.2, 0.4, "", ""),
]


def test_tables_of_speed_print_the_measured_rows(tmp_path: Path) -> None:
    assert blocks(tmp_path) == {}
    file = tmp_path / MEASURED
    file.parent.mkdir(parents=True)
    file.write_text("\n".join([HEAD, *(",".join(f'"{cell}"' for cell in row) for row in ROWS)]) + "\n")
    found = {name: text.splitlines() for name, text in blocks(tmp_path).items()}
    none, twice = "not measured", "2.00 times faster [1.25, 2.50]"
    assert found["speed-int8"][2:] == [
        f"| ResNet-20 | INT8, OpenVINO | {none} | {twice} | {none} | {none} | 8.0 times smaller | 75%, packed 100% |"
    ]
    assert (
        f"| forward pass on packed bits | the float twin, compiled too | 1.02 of it | {none} |" in found["speed-main"]
    )
    assert (
        f"| the same, and gradients by tables | the float twin, compiled too | 0.76 of it | {none} |"
        in found["speed-main"]
    )
    assert found["speed-main"][2].endswith(f"| 2.5 times faster | {none} |")
    assert found["speed-gradients"][2:] == [f"| 16 channels | {twice} | 4.00 times faster [2.50, 5.00] |"]
    assert found["speed-front"][2] == f"| ResNet-20 | 0.76 of it | {none} | {twice} |"
    assert found["speed-asked"][0].startswith("2 of 3 ")
    assert found["speed-asked"][4:] == [f"| {STEP} | ours, compiled | {AUTHORS} | 0.37 | 0.40 [0.30, 0.50] |"]
