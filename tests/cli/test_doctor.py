"""`resteutils doctor`: one thing a line, what is wrong and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_doctor_says_one_thing_a_line(run) -> None:
    status, out, err = run("doctor")
    lines = out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "optional", "warning", "problem"}
    subjects = {line.split()[1] for line in lines}
    assert subjects >= {"python", "packages", "device", "compiler", "cifar10", "data", "runs", "results", "kernel"}
    assert subjects >= {"home", "cache", "wandb", "git"} | ({"shm"} if os.path.isdir("/dev/shm") else set())
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
    assert extra.state == "optional" and "is not >=99" in extra.text and ".[bench]" in extra.text


def test_doctor_says_how_runs_are_tracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from resteutils.cli import doctor
    from resteutils.training import tracking

    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert doctor.tracking().text.startswith("offline")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert doctor.tracking().text.startswith("online")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert doctor.tracking().text.startswith("disabled")
    for mode in tracking.MODES:
        monkeypatch.setenv("WANDB_MODE", mode)
        assert doctor.tracking().text.startswith(mode)
    monkeypatch.setenv("WANDB_MODE", "loud")
    assert doctor.tracking().state == "problem" and "loud" in doctor.tracking().text


def test_doctor_asks_for_the_compiler_that_cxx_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.cli import doctor
    from resteutils.kernels import build

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}" if name in ("g++", "ccache") else None)
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    found = doctor.compiler()
    assert found.state == "warning" and "CXX=no-such-compiler -m64" in found.text
    monkeypatch.setenv("CXX", "ccache g++")
    assert doctor.compiler().state == "ok" and "/bin/ccache" in doctor.compiler().text
    for odd in (" ", "'g++"):
        monkeypatch.setenv("CXX", odd)
        assert doctor.compiler().state == "warning" and f"CXX={odd}" in doctor.compiler().text
        with pytest.raises(build.CannotBuild, match="a C\\+\\+ compiler"):
            build._check_tools()
    monkeypatch.setenv("CXX", "")
    assert "/bin/g++" in doctor.compiler().text


def test_doctor_knows_home_and_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from collections import namedtuple

    from resteutils.cli import doctor

    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    assert doctor.home().state == "warning" and str(tmp_path / "gone") in doctor.home().text
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doctor.home().state == "ok"
    monkeypatch.delenv("HOME")
    assert "HOME is not set" in doctor.home().text
    monkeypatch.setattr(doctor.Path, "is_dir", lambda path: True)
    for free, state in ((64_000, "warning"), (64_000_000, "ok")):
        usage = namedtuple("usage", "free")(free)
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, usage=usage: usage)
        (found,) = doctor.shared_memory()
        assert found.state == state and ("--shm-size" in found.text) == (state == "warning")


def test_doctor_reports_the_room_of_all_three_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from collections import namedtuple

    from resteutils.cli import doctor

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(100e6))
    folders = [tmp_path / name for name in ("data", "runs", "results")]
    found = {each.subject: each for each in doctor.disk(*folders)}
    assert {name: each.state for name, each in found.items()} == {"data": "ok", "runs": "problem", "results": "problem"}
    assert all("0.1 GB free" in each.text and name in each.text for name, each in found.items())


def test_doctor_goes_on_after_a_package_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.cli import doctor

    def broken():
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "device", broken)
    found = list(doctor.examine())
    (line,) = [each for each in found if each.subject == "device"]
    assert line.state == "problem" and "libcudart.so.13" in line.text
    assert found[-1].subject == "cluster"


def test_a_python_without_torch_says_so_in_one_line(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    code = "import runpy, sys; sys.argv = ['resteutils', 'doctor']; "
    code += "runpy.run_module('resteutils', run_name='__main__')"
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "torch is not installed" in done.stderr and "pip install" in done.stderr


BROKEN = {  # what torch does when it is imported, and what is said of it
    "raise OSError('libcudart.so.13: cannot\\nopen shared object file')": "OSError: libcudart.so.13: cannot open",
    "from torch._C import *": "ModuleNotFoundError: No module named 'torch._C'",
    "raise ImportError('undefined symbol: ncclCommSplit')": "ImportError: undefined symbol: ncclCommSplit",
}


@pytest.mark.parametrize("source", BROKEN, ids=["library", "module", "symbol"])
def test_a_torch_that_does_not_load_is_one_line_for_every_command(root: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "torch.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "RESTEUTILS_DEBUG": ""}

    def python(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    for command in ("doctor", "list"):
        done = python("-m", "resteutils", command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert BROKEN[source] in done.stderr and "pip install" in done.stderr and sys.prefix in done.stderr
    environment["RESTEUTILS_DEBUG"] = "1"
    assert "Traceback" in python("-m", "resteutils", "list").stderr
    assert "Traceback" in python("-c", "import resteutils").stderr  # a program of the user's own


def test_doctor_says_whether_runs_can_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.cli import doctor

    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    found = doctor.mps()
    assert (found.state, found.subject) == ("optional", "mps")
    assert "nvidia-cuda-mps-control -d" in found.text
    (tmp_path / "control").touch()
    assert doctor.mps().state == "ok"
    assert str(tmp_path) in doctor.mps().text
