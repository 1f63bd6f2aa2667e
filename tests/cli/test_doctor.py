"""`resteutils doctor`: one thing a line, what is wrong and what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def test_doctor_says_one_thing_a_line(run) -> None:
    status, out, err = run("doctor")
    lines = out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "problem"}
    subjects = {line.split()[1] for line in lines}
    assert subjects >= {"python", "packages", "device", "compiler", "cifar10", "runs", "kernel", "wandb", "git"}
    assert status == any(line.startswith("problem") for line in lines), err


def test_doctor_reports_half_a_dataset_as_a_problem(run, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"")
    status, out, _ = run("doctor", "--data-dir", str(tmp_path / "data"))
    assert status == 1
    (line,) = [line for line in out.splitlines() if " cifar10 " in line]
    assert line.startswith("problem") and "test_batch" in line and "data_batch_1" in line  # missing, damaged


def test_doctor_compares_environments_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    from resteutils.cli import doctor

    other = tmp_path / "other" / "bin" / "python"
    other.parent.mkdir(parents=True)

    def starts(program: str) -> str:
        monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: KernelSpec(argv=[program]))
        return doctor.kernelspec().state

    assert starts(str(other)) == "problem"  # an environment that was removed
    other.symlink_to(sys.executable)
    assert starts(str(other)) == "problem"  # another one, made from the same interpreter
    assert starts(sys.executable) == starts("python") == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_doctor_reports_a_folder_that_cannot_be_written(run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    status, out, _ = run("doctor", "--runs-dir", str(tmp_path / "runs"))
    tmp_path.chmod(0o700)
    assert status == 1
    assert "RUNS_DIR" in out


def test_doctor_names_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.cli import doctor

    wanted = ["torch>=2.6", "no-such-package>=1.0", 'numpy>=99; extra == "bench"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: wanted)
    problem, extra = doctor.packages()
    assert problem.state == "problem" and "no-such-package is not installed" in problem.text
    assert extra.state == "warning" and "is not >=99" in extra.text and ".[bench]" in extra.text


def test_doctor_says_how_runs_are_tracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from resteutils.cli import doctor

    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert doctor.tracking().text.startswith("offline")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert doctor.tracking().text.startswith("online")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert doctor.tracking().text.startswith("disabled")
    monkeypatch.setenv("WANDB_MODE", "loud")
    assert doctor.tracking().state == "problem" and "loud" in doctor.tracking().text
