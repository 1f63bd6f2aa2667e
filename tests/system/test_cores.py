"""Cores: no more than the affinity, and no more than a container's quota of CPU time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resteutils.cli import doctor
from resteutils.system.cores import usable_cores

V1 = "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n"


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(folder: Path, groups: str, **files: str) -> Path:
    """A machine whose process is in ``groups``; ``files`` below /sys/fs/cgroup, ``__`` for a slash."""
    for name, text in {"proc__self__cgroup": groups, **{f"sys__fs__cgroup__{k}": v for k, v in files.items()}}.items():
        path = folder.joinpath(*name.replace("DOT", ".").split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpuDOTmax": "200000 100000\n"}, 2),
        ("0::/\n", {"cpuDOTmax": "250000 100000\n"}, 3),
        ("0::/\n", {"cpuDOTmax": "10000 100000\n"}, 1),
        ("0::/\n", {"cpuDOTmax": "max 100000\n"}, 8),
        ("0::/\n", {"cpuDOTmax": "9900000 100000\n"}, 8),
        ("0::/\n", {}, 8),
        ("0::/a/b\n", {"a__cpuDOTmax": "400000 100000\n", "a__b__cpuDOTmax": "max 100000\n"}, 4),
        (V1, {"cpu__docker__x__cpuDOTcfs_quota_us": "150000\n", "cpu__docker__x__cpuDOTcfs_period_us": "100000\n"}, 2),
        (V1, {"cpu__docker__x__cpuDOTcfs_quota_us": "-1\n", "cpu__docker__x__cpuDOTcfs_period_us": "100000\n"}, 8),
        (V1, {"cpu__cpuDOTcfs_quota_us": "300000\n", "cpu__cpuDOTcfs_period_us": "100000\n"}, 3),
    ],
    ids=str,
)  # fmt: skip
def test_a_quota_narrows_the_cores(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(system(tmp_path, groups, **files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path) == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3


def test_the_doctor_warns_of_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 64)
    found = doctor.threads()
    assert found.state == "warning" and "set OMP_NUM_THREADS=2" in found.text
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 2)
    assert doctor.threads().state == "ok"
