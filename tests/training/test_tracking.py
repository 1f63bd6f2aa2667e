"""Tracking: which mode, never a prompt, never a reason to stop; offline runs that W&B's own reader accepts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny import RECIPE, call, tiny
from helpers.wandb_log import values, wandb_records

from resteutils.nn.layers import binary_layers
from resteutils.recipes.build import open_data
from resteutils.runs.store import load_or_train
from resteutils.training.stopping import Interrupted
from resteutils.training.tracking import NoTracker, WandbTracker, open_tracker, wandb_mode


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODE", "API_KEY", "BASE_URL", "IDENTITY_TOKEN_FILE", "CONFIG_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name in ("NETRC",):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# --- the mode --------------------------------------------------------------------------------------------------------


def test_without_a_key_it_is_offline(no_key) -> None:
    assert wandb_mode() == "offline"


def test_an_empty_mode_counts_as_unset(no_key, monkeypatch: pytest.MonkeyPatch) -> None:
    for empty in ("", "  "):
        monkeypatch.setenv("WANDB_MODE", empty)
        assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode() == "online"


def test_a_key_in_netrc_counts(no_key, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password " + "x" * 40 + "\n")
    netrc.chmod(0o600)
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")  # another server, no key for it
    assert wandb_mode() == "offline"
    netrc.write_text("not a netrc file {")
    assert wandb_mode() == "offline"


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
@pytest.mark.parametrize("name", [".netrc", "_netrc", "elsewhere"])
def test_a_key_counts_wherever_wandb_login_writes_it(name, host, no_key, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"machine {host} login user password {'x' * 40}\n")
    (tmp_path / name).chmod(0o600)
    if name == "elsewhere":
        assert wandb_mode() == "offline"
        monkeypatch.setenv("NETRC", str(tmp_path / name))
    assert wandb_mode() == "online"


def test_a_server_of_one_s_own_with_its_port(no_key, tmp_path: Path) -> None:
    settings = tmp_path / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = http://localhost:8080\n")
    (tmp_path / ".netrc").write_text(f"machine localhost:8080 login user password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode() == "online"
    (tmp_path / ".netrc").unlink()
    assert wandb_mode() == "offline"
    settings.write_text("[default]\napi_key = " + "x" * 40)
    assert wandb_mode() == "online"
    settings.write_text("no settings file {")
    assert wandb_mode() == "offline"


@pytest.mark.parametrize(("mode", "meant"), [("run", "online"), ("dryrun", "offline"), ("shared", "shared")])
def test_every_mode_of_wandb_is_taken(mode: str, meant: str, no_key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode() == meant


@pytest.mark.parametrize("mode", ["online", "offline", "disabled", "Disabled", " offline "])
def test_a_mode_that_is_set_wins(mode: str, no_key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode() == mode.strip().lower()


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(
        ValueError, match="WANDB_MODE = 'sometimes', expected online, offline, shared, disabled, run, dryrun"
    ):
        wandb_mode()


def test_disabled_does_not_even_import_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    said: list[str] = []
    tracker = open_tracker("id", "group", {}, tmp_path, say=said.append)
    tracker.log({"loss": 1.0}, 1)
    tracker.finish({"top1": 1.0})
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_a_training_keeps_its_id_when_it_goes_on_and_gets_another_when_it_starts_afresh(tmp_path, monkeypatch) -> None:
    """W&B would drop the epochs of a second training under an id that has them already, and say so nowhere."""
    import wandb

    ids: list[str] = []

    def init(id: str, **options):
        ids.append(id)
        return Broken()

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", init)
    folders, steps = (tmp_path / "runs", tmp_path / "results"), iter(range(100))
    with pytest.raises(Interrupted):
        call(folders, stop=lambda: next(steps) == 3)
    call(folders)
    call(folders, force=True)
    call((tmp_path / "other", tmp_path / "results-of-it"))
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert all(id.startswith(RECIPE.run_id) and len(id) < 128 for id in ids)


# --- trouble ---------------------------------------------------------------------------------------------------------


def test_a_tracker_that_cannot_start_is_said_once_and_the_run_goes_on(tmp_path: Path, monkeypatch) -> None:
    import wandb

    def refuse(**options):
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", refuse)
    said: list[str] = []
    recipe = tiny(epochs=1, warmup_epochs=0, train_size=16)
    run = load_or_train(recipe, tmp_path / "r", "cpu", results_dir=tmp_path / "s", say=said.append, show=False)
    assert run.result["epochs"] == 1
    assert [line for line in said if "could not start (no route to host)" in line] == said[:1]


class Broken:
    id = name = "id"
    url = None

    def define_metric(self, name, **options):
        pass

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def config(self):
        raise ConnectionError("lost")

    def log(self, values, step):
        self.calls.append("log")
        raise ConnectionError("lost")

    @property
    def summary(self):
        raise ConnectionError("still lost")

    def finish(self, exit_code):
        self.calls.append(f"finish {exit_code}")
        raise ConnectionError("lost for good")


def test_a_tracker_that_breaks_on_the_way_is_said_once() -> None:
    said: list[str] = []
    run = Broken()
    tracker = WandbTracker(run, said.append)
    tracker.describe(dict)
    for epoch in (1, 2):
        tracker.log({"loss": 1.0}, epoch)
    tracker.finish({"top1": 1.0}, failed=True)
    assert run.calls == ["log", "log", "finish 1"]  # tried again: it may be back
    assert len(said) == 1
    assert "failed (lost); the run goes on" in said[0]


def test_no_tracker_takes_everything() -> None:
    tracker = NoTracker()
    tracker.describe(lambda: pytest.fail("made for nobody"))
    tracker.log({"loss": 1.0}, 1)
    tracker.finish({"top1": 1.0}, [Path("nowhere")], failed=True)


class Recorder:
    """What the loop tells a tracker."""

    url = "https://wandb.example.org/run"

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict]] = []
        self.end: tuple | None = None

    def describe(self, config):
        self.described = config()

    def log(self, values, epoch, gradients):
        self.rows.append((epoch, values))
        self.gradients = {name: gradient.shape for name, gradient in gradients.items()}

    def finish(self, summary, files=(), failed=False):
        self.end = (dict(summary), [Path(file).name for file in files], failed)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()

    def open_it(run_id, group, config, folder, **options):
        found.opened, found.tags = (run_id, group, config), list(options["tags"])
        return found

    monkeypatch.setattr("resteutils.runs.store.open_tracker", open_it)
    return found


def test_what_a_run_tells_its_tracker(recorder: Recorder, tmp_path: Path) -> None:
    recipe = tiny()
    run = load_or_train(recipe, tmp_path / "r", "cpu", results_dir=tmp_path / "s", show=False)
    run_id, group, config = recorder.opened
    assert (run_id, group) == (recipe.run_id, "table3")
    assert config["identity"] == recipe.identity
    assert config["estimator"] == recipe.estimator.to_dict()
    assert [epoch for epoch, _ in recorder.rows] == [1, 2]
    assert recorder.rows[1][1]["test_top1"] == pytest.approx(run.result["top1"], rel=1e-6)
    summary, files, failed = recorder.end
    assert summary == {**run.record["result"], "files": run.provenance["files"]}
    assert files == ["record.json", "history.csv", "model.safetensors"]
    assert run.provenance["wandb"] == recorder.url
    assert recorder.described["environment"]["threads"] == run.provenance["threads"]
    assert recorder.described["dataset_digest"] == open_data(recipe).fingerprint()
    assert recorder.described["dataset_digest"] != open_data(tiny(train_size=64)).fingerprint()
    weights = {name: layer.weight.shape for name, layer in binary_layers(run.model())}
    assert recorder.gradients == weights and len(weights) > 15
    assert config["commit"] == run.provenance["commit"] and config["machine"]["threads"] >= 1
    assert config["versions"] == run.provenance["versions"]
    assert recorder.tags == ["table3", "smoke", "digits", "resnet20", "reste"]
    assert not failed
    assert not any("KEY" in str(key).upper() for key in config)


def test_a_failed_run_is_marked_failed(recorder: Recorder, tmp_path: Path) -> None:
    from resteutils.training.stopping import NonFinite

    with pytest.raises(NonFinite):
        load_or_train(tiny(lr=1e20, warmup_epochs=0), tmp_path / "r", "cpu", results_dir=tmp_path / "s", show=False)
    assert recorder.end == ({}, [], True)


# --- W&B itself, offline ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_offline_run_is_complete_and_wandb_would_sync_it(tmp_path: Path, no_key, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")  # as the Makefile passes an unset variable on
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    file = tmp_path / "record.json"
    file.write_text("{}")
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"weights")
    config = {"lr": 0.1, "identity": "abc"}
    tracker = open_tracker("reste-test-s0", "table3", config, tmp_path, tags=["table3"], say=said.append)
    assert isinstance(tracker, WandbTracker), said
    gradient = torch.tensor([[0.0, -0.1], [1e-3, 0.1]])
    tracker.describe(lambda: {"dataset_digest": "d"})
    for epoch in (1, 2):
        tracker.log({"train_loss": 2.0 / epoch, "o": float("nan")}, epoch, {"conv1": gradient, "conv2": 0 * gradient})
    tracker.finish({"top1": 50.0}, [file, model])
    assert said == []

    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    kinds: list[str] = []
    for _ in range(600):  # W&B writes in a process of its own, which may be a little behind
        records = wandb_records(next(folder.glob("run-reste-test-s0-*.wandb")))
        kinds = [record.WhichOneof("record_type") for record in records]
        if "exit" in kinds:
            break
        time.sleep(0.1)
    assert "exit" in kinds  # the run ended properly
    started = records[kinds.index("run")].run
    assert (started.display_name, started.run_group, started.job_type) == ("reste-test-s0", "table3", "train")
    assert started.run_id == (tmp_path / "wandb" / "reste-test-s0.id").read_text().strip()
    assert values(started.config.update)["identity"] == "abc"
    rows = [values(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]
    assert [(row["epoch"], row["train/loss"]) for row in rows] == [(1, 2.0), (2, 1.0)]
    seen = [rows[0][f"gradients/conv1/{part}"] for part in ("_type", "values", "bins")]  # of what is not zero
    assert (seen[0], sum(seen[1]), seen[1][0], seen[1][-1]) == ("histogram", 3, 1, 2)
    assert (seen[2][0], seen[2][-1]) == pytest.approx((-3, -1)) and not any(rows[0]["gradients/conv2/values"])
    updates = [values(record.config.update) for record in records if record.WhichOneof("record_type") == "config"]
    assert "d" in [update.get("dataset_digest") for update in updates]
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert ("*", "epoch") in {(metric.glob_name, metric.step_metric) for metric in metrics}
    assert list(started.tags) == ["table3"]
    summaries = [values(record.summary.update) for record in records if record.WhichOneof("record_type") == "summary"]
    assert {"top1": 50.0}.items() <= {key: value for part in summaries for key, value in part.items()}.items()
    logged = b"".join(record.SerializeToString() for record in records)
    assert b"result-reste-test-s0" in logged and b"model-reste-test-s0" in logged  # the artifacts, by stable names

    wandb = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)]
    done = subprocess.run(wandb, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert folder.name in done.stdout + done.stderr


def test_the_sweep_file_calls_a_command_that_exists(root: Path, run) -> None:
    yaml = pytest.importorskip("yaml")
    sweep = yaml.safe_load((root / "sweep.yaml").read_text())
    program, *words = sweep["command"]
    chosen = [f"--{name}={entry['values'][0]}" for name, entry in sweep["parameters"].items()]
    command = [*words[:-1], *chosen, "--epochs", "-1"]  # refused after all else is read
    assert (program, words[-1]) == ("resteutils", "${args}")
    assert "epochs = -1" in run(*command)[2]
