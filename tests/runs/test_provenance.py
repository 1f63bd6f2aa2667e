"""Where a result comes from: commit, versions, machine; no host and no home."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from resteutils.runs import provenance as provenance_module
from resteutils.runs.provenance import machine, provenance


def test_provenance_is_plain_json_and_says_where_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(root)
    found = json.loads(json.dumps(provenance(), allow_nan=False))
    assert {"commit", "dirty", "versions", "machine", "created"} <= set(found)
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert found["commit"] == head.stdout.strip()
        assert isinstance(found["dirty"], bool)
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert {"cpu", "cores", "threads", "memory_gb", "gpu"} <= set(found["machine"])
    assert found["created"].endswith("+00:00")


def test_provenance_names_no_host_and_no_home() -> None:
    import platform

    text = json.dumps(provenance())
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    if len(platform.node()) > 3:
        assert platform.node() not in text
    assert machine()["system"].split()[0] == platform.system()


def test_provenance_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance_module.subprocess, "run", missing)
    found = provenance()
    assert (found["commit"], found["dirty"]) == ("unknown", None)


def test_provenance_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance_module, "project_root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance()["commit"] == "unknown"


def test_provenance_in_another_project_does_not_name_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own project may have a pyproject.toml, notebooks/ and a git repository, and none of this code."""
    asked = []
    monkeypatch.setattr(provenance_module, "project_root", lambda: tmp_path)
    monkeypatch.setattr(provenance_module.subprocess, "run", lambda *a, **k: asked.append(a))
    assert provenance()["commit"] == "unknown"
    assert not asked


def test_one_more_package_is_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    def hashed(*pairs: tuple[str, str]) -> str:
        installed = [SimpleNamespace(name=name, version=version) for name, version in pairs]
        monkeypatch.setattr(provenance_module.metadata, "distributions", lambda: installed)
        return provenance_module._packages.__wrapped__()

    one = hashed(("torch", "2.14.1"), ("typing_extensions", "4.1"))
    assert one == hashed(("typing-extensions", "4.1"), ("torch", "2.14.1"))
    assert one != hashed(("torch", "2.14.1"), ("typing_extensions", "4.2"))
    assert one != hashed(("torch", "2.14.1"), ("typing_extensions", "4.1"), ("numpy", "2.0"))
