"""One tracker interface. The disk is the truth; Weights & Biases is a copy beside it, and never stops a run.

The training loop knows ``Tracker`` only: ``describe`` once the data are open, ``log`` once per epoch, ``finish`` once.
W&B's mode is decided before its first ``init``: ``WANDB_MODE`` if set and not empty, online if a key is configured,
else offline. There is never a prompt.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resteutils.system.files import write_atomic
from resteutils.system.settings import runs_dir as runs_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NoTracker", "Tracker", "WandbTracker", "artifact_name", "grouped", "log_item", "open_tracker", "wandb_mode"]

PROJECT = "reste-reproduced"
MODES = ("online", "offline", "shared", "disabled")
SERVERS = {"api.wandb.ai", "api.forge.coreweave.com"}  # W&B's own, before and since 0.31
BINS = 64  # of a layer's histogram
START_SECONDS = 30.0  # then the server counts as lost
FINISH_SECONDS = 60.0  # then W&B leaves the rest on this disk; by itself it would wait for ever for a lost server


class Tracker(Protocol):
    """What the training loop sees."""

    def describe(self, config: Callable[[], dict[str, Any]]) -> None: ...

    def log(self, values: dict[str, float], epoch: int, gradients: Mapping[str, Tensor] | None = None) -> None: ...

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None: ...

    @property
    def url(self) -> str: ...


class NoTracker:
    """Tracks nothing."""

    url = ""

    def describe(self, config: Callable[[], dict[str, Any]]) -> None:
        pass

    def log(self, values: dict[str, float], epoch: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        pass

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None:
        pass


def wandb_mode() -> str:
    """ "online", "offline", "shared" or "disabled", from ``WANDB_MODE`` (an empty value counts as unset) and the
    configured key. W&B's older names count: "run" is online, "dryrun" offline.

    Raises ``ValueError`` for another value of ``WANDB_MODE``.
    """
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    mode = {"run": "online", "dryrun": "offline"}.get(mode, mode)
    if mode:
        if mode not in MODES:
            raise ValueError(f"WANDB_MODE = {mode!r}, expected {', '.join(MODES)}, run, dryrun (or unset)")
        return mode
    return "online" if _key_configured() else "offline"


def _key_configured() -> bool:
    """Whether W&B would find credentials, in the places where it looks; without importing it, which takes seconds."""
    import configparser
    import netrc
    import urllib.parse

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    kept = configparser.ConfigParser(interpolation=None)
    try:
        kept.read(os.path.expanduser(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb") + "/settings")
    except (configparser.Error, UnicodeDecodeError):
        kept.clear()
    if kept.get("default", "api_key", fallback=""):
        return True
    server = os.environ.get("WANDB_BASE_URL") or kept.get("default", "base_url", fallback="")
    hosts = {urllib.parse.urlsplit(server).netloc} if server else SERVERS
    for path in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        try:
            if hosts & netrc.netrc(os.path.expanduser(path)).hosts.keys():
                return True
        except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
            continue
    return False


def open_tracker(
    run_id: str,
    group: str,
    config: dict[str, Any],
    folder: Path,
    job_type: str = "train",
    tags: Iterable[str] = (),
    say: Callable = print,
) -> Tracker:
    """Open a W&B run beside the files in ``folder``, resumed while it is there; a :class:`NoTracker` where W&B is
    disabled or cannot start, which is said once. Where the server cannot be had, this run and the later ones of the
    process are kept offline: a minute's wait for each of them would be an outage that stops a campaign.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return NoTracker()
    if "WANDB_MODE" in os.environ:  # W&B reads it too, and refuses an empty value and capitals
        given = os.environ.pop("WANDB_MODE")
        if given.strip():
            os.environ["WANDB_MODE"] = mode
    try:
        return WandbTracker(_start(run_id, group, config, folder, job_type, tuple(tags), mode), say)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a tracker must not stop a training run
        reason = " ".join(str(error).split())
    if mode in ("online", "shared"):
        say(f"Weights & Biases could not start ({reason}); runs are kept offline, `wandb sync` uploads them later")
        os.environ["WANDB_MODE"] = "offline"
        _forget_id(run_id, folder)
        return open_tracker(run_id, group, config, folder, job_type, tags, say)
    say(f"Weights & Biases could not start ({reason}); the run goes on, its history is in {folder}")
    return NoTracker()


def _own_id(run_id: str, folder: Path) -> str:
    """W&B's id of a run, kept in its folder while it is the same training: W&B ignores the epochs of another one that
    comes under an id which has them already (trained again by force, elsewhere, or by somebody else).
    """
    if os.environ.get("WANDB_SWEEP_ID"):  # the agent has named the run, and looks for its metric there
        return os.environ["WANDB_RUN_ID"]
    path = folder / "wandb" / f"{run_id}.id"
    if not path.is_file():
        write_atomic(path, f"{run_id}-{secrets.token_hex(3)}\n")
    return path.read_text(encoding="utf-8").strip()


def _forget_id(run_id: str, folder: Path) -> None:
    """Let the next start take another id: W&B's service holds that of a start that failed to be in use. What this one
    left holds no epoch, and would be uploaded as a run of its own.
    """
    path = folder / "wandb" / f"{run_id}.id"
    if not path.is_file():
        return
    for left in path.parent.glob(f"run-*-{path.read_text(encoding='utf-8').strip()}"):
        shutil.rmtree(left, ignore_errors=True)
    path.unlink()


def _start(
    run_id: str, group: str, config: dict[str, Any], folder: Path, job_type: str, tags: tuple[str, ...], mode: str
):
    os.environ["WANDB_SILENT"] = "true"  # read at the import: without it, W&B asks at a terminal for a key that lacks
    import wandb

    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        id=_own_id(run_id, folder),
        name=run_id,
        group=group,
        job_type=job_type,
        tags=tags,
        config=config,
        dir=str(folder),
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=wandb.Settings(
            init_timeout=START_SECONDS, silent=True, console="off", x_disable_stats=True, disable_git=True,
            disable_code=True, save_code=False, finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
        ),
    )  # fmt: skip


class WandbTracker:
    """Sends to one W&B run; the first failure is said, later ones are not repeated."""

    def __init__(self, run, say: Callable = print) -> None:
        self.run, self.say, self.broken = run, say, False
        self._try(self._define_metrics)

    def _define_metrics(self) -> None:
        self.run.define_metric("epoch", hidden=True)
        self.run.define_metric("*", step_metric="epoch")

    @property
    def url(self) -> str:
        """The run's page; "" where it has none."""
        return getattr(self.run, "url", None) or ""

    def describe(self, config: Callable[[], dict[str, Any]]) -> None:
        """Add to the run's configuration what was not known when it was opened; made only here, since it may cost."""
        self._try(lambda: self.run.config.update(config(), allow_val_change=True))

    def log(self, values: dict[str, float], epoch: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        """Send one epoch's row of the history, its columns grouped as :func:`grouped` says, and of each layer's
        ``gradients`` (any shape, of the last batch) the histogram of log10 |g|.
        """
        self._try(lambda: self.run.log({**grouped(values), **_histograms(gradients or {}), "epoch": epoch}, step=epoch))

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None:
        """Send the summary and the files, as artifacts whose names stay the same in every training of the run, and end
        it: models as "model-<run id>", all else as "result-<run id>".
        """
        kinds: dict[str, list[Path]] = {}
        for file in files:
            kinds.setdefault("model" if file.suffix == ".safetensors" else "result", []).append(file)
        self._try(lambda: self.run.summary.update(summary))
        for kind, members in kinds.items():
            self._try(lambda kind=kind, members=members: self._keep(kind, members, summary))
        self._try(lambda: self.run.finish(exit_code=int(failed)))

    def _keep(self, kind: str, files: list[Path], summary: dict[str, Any]) -> None:
        import wandb

        plain = {name: value for name, value in summary.items() if isinstance(value, str | int | float)}
        artifact = wandb.Artifact(artifact_name(kind, self.run.name), type=kind, metadata=plain)
        for file in files:
            artifact.add_file(str(file))
        self.run.log_artifact(artifact)

    def use(self, names: Iterable[str]) -> None:
        """Say which artifacts this run is made of, the latest version of each; offline runs cannot."""
        for name in names:
            self._try(lambda name=name: self.run.use_artifact(f"{name}:latest"))

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - as in open_tracker
            if not self.broken:
                self.say(f"Weights & Biases failed ({error}); the run goes on, the disk has everything")
            self.broken = True


def _histograms(gradients: Mapping[str, Tensor]) -> dict[str, Any]:
    """``gradients/<layer>``: how often which log10 |g| is, zeros aside."""
    import numpy as np
    import wandb

    sizes = {name: gradient.detach().abs().flatten() for name, gradient in gradients.items()}
    logs = {name: size[size > 0].log10().float().cpu().numpy() for name, size in sizes.items()}
    return {f"gradients/{name}": wandb.Histogram(np_histogram=np.histogram(log, BINS)) for name, log in logs.items()}


def artifact_name(kind: str, run_id: str) -> str:
    """The stable name of a run's artifact."""
    return f"{kind}-{run_id}"


def grouped(row: dict[str, float]) -> dict[str, float]:
    """A row of the history by W&B's groups: ``train/loss``, ``test/top1``, ``equilibrium/error_code``.

    >>> grouped({"train_loss": 2.0, "test_top1": 10.0, "spread": 0.5, "lr": 0.1})
    {'train/loss': 2.0, 'test/top1': 10.0, 'equilibrium/spread': 0.5, 'lr': 0.1}
    """
    return {_grouped(name): value for name, value in row.items()}


def _grouped(name: str) -> str:
    head, _, rest = name.partition("_")
    if head in ("train", "test") and rest:
        return f"{head}/{rest}"
    return f"equilibrium/{name}" if head in ("error", "instability", "spread") else name


def log_item(
    item: str, profile: str, table, figure: Path | None, folder: Path, summary: dict[str, Any], runs_dir: str = ""
) -> None:
    """Log one summary run per table or figure: the table as a ``wandb.Table``, the picture, the folder as an artifact
    that is made of those of the runs.

    ``table`` is a DataFrame or ``None``. W&B's own files go to ``wandb-items/`` in the runs folder.
    """
    if wandb_mode() == "disabled":
        return
    home = runs_folder(runs_dir) / "wandb-items"
    home.mkdir(parents=True, exist_ok=True)
    source = json.loads((Path(folder) / "provenance.json").read_text(encoding="utf-8"))
    runs = [run["run_id"] for run in source.pop("runs", [])]
    config = {"item": item, "profile": profile, **source}
    tracker = open_tracker(f"item-{item}-{profile}", item, config, home, "summary", [item, profile])
    if isinstance(tracker, NoTracker):
        return

    def send():
        import wandb

        if table is not None:
            tracker.run.log({"table": wandb.Table(dataframe=table.astype(object).where(table.notna(), None))})
        if figure is not None:
            tracker.run.log({"picture": wandb.Image(str(figure))})

    tracker._try(send)
    if tracker.url:
        tracker.use(artifact_name("result", run_id) for run_id in dict.fromkeys(runs))
    tracker.finish(summary, sorted(path for path in Path(folder).iterdir() if path.is_file()))
