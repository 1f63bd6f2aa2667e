"""GPU paths on a machine without one: torch's own CUDA code over a runtime that computes nothing and counts.

Each test is a process of its own with that runtime loaded before torch's. It says nothing of numbers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_gpu import SCRIPTS, said, under


def test_no_step_of_any_network_estimator_or_precision_waits_for_the_gpu(library: Path) -> None:
    lines = said(library, "sweep")
    cases = [line.split(maxsplit=5)[1:] for line in lines if line.startswith("CASE")]
    assert len(cases) > 30
    assert all(int(kernels) > 50 for kernels, *_ in cases)
    assert [case for case in cases if (case[1], case[2]) != ("0.0", "0.0")] == [], "\n".join(lines)
    pinned = {label: float(count) for *_, count, label in cases}
    own = min(pinned.values())  # torch's: from 2.15 on its norm of all gradients brings a table along
    moving = {count - own for label, count in pinned.items() if "schedule" in label}
    assert own <= 1 and moving == {1.0}  # the coefficients of all layers in one copy,
    assert {count - own for label, count in pinned.items() if "schedule" not in label} <= {0.0, 0.5}  # where they move


@pytest.mark.fakecuda
def test_evaluation_waits_for_its_sums_only(library: Path) -> None:
    (line,) = [line for line in said(library, "evaluation") if line.startswith("CASE")]
    assert [float(word) for word in line.split()[2:4]] == [0, 1]


@pytest.mark.fakecuda
def test_signs_are_convolved_in_tf32_whatever_the_precision_and_nothing_else_is(library: Path) -> None:
    found = {tuple(line.split()[1:4]): line.split()[4:] for line in said(library, "signs") if line.startswith("SIGNS")}
    assert found == {
        ("1/1", "fp32", "after"): ["tf32", "True"],
        ("1/1", "fp32", "before"): ["ieee", "True"],
        ("1/32", "fp32", "after"): ["ieee", "True"],
        **{(bits, p, "after"): ["tf32", "True"] for bits in ("1/1", "1/32") for p in ("tf32", "bf16")},
    }


@pytest.mark.fakecuda
@pytest.mark.parametrize(("flaw", "copies", "waits"), [("item", 0, 1), ("copy", 1, 1)])
def test_a_step_that_looks_at_a_number_or_brings_one_along_is_found(library, flaw, copies, waits) -> None:
    (line,) = [line for line in said(library, f"bad {flaw}") if line.startswith("CASE")]
    assert [float(word) for word in line.split()[2:4]] == [copies, waits]


@pytest.mark.fakecuda
def test_images_on_another_device_are_refused_as_on_a_gpu(library: Path) -> None:
    done = under(library, str(SCRIPTS / "steps.py"), "bad", "device")
    assert done.returncode != 0
    assert "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor)" in done.stderr


def test_training_stops_and_goes_on_and_records_the_gpu(library: Path) -> None:
    lines = said(library, "resume")
    assert "STOPPED" in lines
    assert lines[-1].startswith("FINISHED 2 fakecuda")
    assert lines[-1].endswith("False")
