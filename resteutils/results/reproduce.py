"""Run an item's notebook from its first cell to its last, headlessly, and keep what it made.

Papermill executes ``notebooks/<name>.ipynb`` with the project's root as working directory. Table, picture, verdict,
provenance and the executed notebook are completed in a folder beside ``results/<profile>/<item>/`` and take its place
together; a reproduction that fails or is killed leaves the previous result whole, and the next call continues from the
runs that are finished. The disk is the record; Weights & Biases gets a copy afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resteutils.recipes import ITEMS, item_recipes, known
from resteutils.results import report, standing
from resteutils.results.notebook import folder_names, notebook_html, tidy, without_paths
from resteutils.system import settings
from resteutils.system.files import replaced, writable, write_atomic
from resteutils.training.stopping import Interrupted, NonFinite, handling

__all__ = ["ReproductionError", "find_notebook", "notebook_of", "reproduce", "reproduce_all"]


class ReproductionError(RuntimeError):
    """A notebook that did not run to its end, or did not leave what an item consists of."""


def notebook_of(item: str) -> Path:
    """Find the notebook of an item: the checkout's, else the one that the installed wheel has with it.

    Raises ValueError for an unknown item, FileNotFoundError where neither place has the file.
    """
    known("item", item, ITEMS)
    return find_notebook(ITEMS[item].notebook)


def find_notebook(name: str) -> Path:
    """Find a notebook by its name without suffix, as :func:`notebook_of`. Raises FileNotFoundError."""
    folders = (settings.project_root() / "notebooks", Path(__file__).resolve().parents[1] / "notebooks")
    for folder in folders:
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    raise FileNotFoundError(f"there is no notebook {name}.ipynb in {' or '.join(map(str, folders))}")


def reproduce(
    item: str,
    profile: str = "demo",
    rows: str = "",
    seeds: str = "",
    epochs: int = 0,
    device: str = "auto",
    data_dir: str = "",
    runs_dir: str = "",
    results_dir: str = "",
    overrides: str = "",
    parallel: int = 1,
    **extra: Any,
) -> Path:
    """Reproduce one table or figure; return ``results/<profile>/<item>``.

    Arguments as in the notebooks' parameters cell: ``rows`` and ``seeds`` are comma-separated, "" and 0 mean the
    profile's own; ``overrides`` ("accumulate=2,lr=0.05") changes fields of every recipe. ``parallel`` processes train
    the item's runs before the notebook reads them. ``extra`` are further parameters of that one notebook.

    Raises ValueError for an unknown item, profile or parameter, and ReproductionError where the notebook fails; the
    executed notebook then lies under ``<runs_dir>/failed/``.
    """
    notebook, root = notebook_of(item), settings.project_root()
    item_recipes(item, profile, rows, seeds, epochs, overrides)  # what is wrong is refused before a kernel is started
    places = settings.Places.of(data_dir, runs_dir, results_dir)
    target = standing.item_folder(item, profile, places.results)
    parameters = {
        "profile": profile,
        "rows": rows if isinstance(rows, str) else ",".join(rows),
        "seeds": seeds if isinstance(seeds, str) else ",".join(map(str, seeds)),
        "epochs": epochs,
        "device": device,
        **({"overrides": overrides} if overrides else {}),
        **extra,
    }
    writable(target.parent, "RESULTS_DIR")
    if parallel > 1 and ITEMS[item].rows:
        _train_first(item, profile, rows, seeds, epochs, device, places, overrides, parallel)
    with replaced(target) as folder:
        _execute(notebook, folder, {**parameters, "out_dir": str(folder)}, root, places)
        _finish(folder, item, profile, root, places)
    _log(item, profile, target, runs_dir)
    return target


def _train_first(item, profile, rows, seeds, epochs, device, places, overrides, parallel) -> None:
    """By processes of this machine; a run that fails or diverges is the notebook's to report."""
    from resteutils.runs.launch import launch, told

    folders = {"data_dir": str(places.data), "runs_dir": str(places.runs), "results_dir": str(places.results)}
    outcomes = launch(item, profile, rows, seeds, epochs, overrides, "local", parallel, 0, device, **folders)
    for line in told(outcomes):
        _say(line)


def reproduce_all(
    profile: str = "demo", results_dir: str = "", write_report: Callable[..., Path] = report.build, **options: Any
) -> list[Path]:
    """Reproduce every item in the paper's order, then write the report; a failing item does not stop the others.

    ``write_report(results_dir=...)`` writes it: the command line's has the explorer's page and the findings, too.

    Raises ReproductionError at the end where items failed, naming them and why; ValueError for ``rows`` and
    ``overrides``, which belong to one item.
    """
    from resteutils.runs.cluster import require_submitit

    if options.pop("rows", "") or options.pop("overrides", ""):
        raise ValueError(
            "rows and overrides belong to one item: name it, as in `resteutils reproduce table1 --rows resnet20-1w1a`"
        )
    if options.get("parallel", 1) > 1:  # once, before anything is trained, instead of once for each item
        require_submitit()
    done, failed = [], {}
    for item in ITEMS:
        try:
            done.append(reproduce(item, profile=profile, results_dir=results_dir, **options))
        except Interrupted:
            raise
        except Exception as error:  # reported below, with a non-zero exit
            failed[item] = f"{type(error).__name__}: {error}"
            _say(f"{item} FAILED: {failed[item]}")
    index = write_report(results_dir=results_dir)
    _say(f"{len(done)} of {len(ITEMS)} items reproduced in profile {profile}; report: {index}")
    if failed:
        reasons = "\n".join(f"  {item}: {why.splitlines()[0]}" for item, why in failed.items())
        raise ReproductionError(f"{len(failed)} of {len(ITEMS)} items failed:\n{reasons}")
    return done


_TYPES = {"str": str, "int": int, "float": float, "bool": bool}  # as the notebooks annotate their parameters


def _execute(notebook: Path, folder: Path, parameters: Mapping[str, Any], root: Path, places: settings.Places) -> None:
    import papermill
    from papermill.exceptions import PapermillException

    taken = papermill.inspect_notebook(_verbatim(notebook))
    unknown = sorted(set(parameters) - set(taken))
    if unknown:  # papermill itself would warn and run with the defaults
        raise ValueError(f"{notebook.name} has no parameter {', '.join(unknown)}: it has {', '.join(sorted(taken))}")
    for name, value in parameters.items():
        typed = taken[name]["inferred_type_name"]
        if type(value) is not _TYPES.get(typed, type(value)):
            raise ValueError(f"{name} = {value!r}, expected {typed} as in the parameters of {notebook.name}")
    _say(f"{notebook.name}, profile {parameters['profile']}")
    executed = folder / "notebook.ipynb"
    try:
        with _forwarded_signals(places) as (kernel_manager, asked):
            papermill.execute_notebook(
                _verbatim(notebook),
                _verbatim(executed),
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=str(root),
                progress_bar=False,
                start_timeout=600,  # seconds; papermill's 60 are few for Python on a cluster's network disk
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                kernel_manager_class=kernel_manager,
                config=_kernel_config(),
            )
    except (PapermillException, RuntimeError) as error:  # RuntimeError: the kernel died
        if asked:
            raise Interrupted(f"{notebook.name} stopped as asked; the same command continues it", asked[0]) from error
        kept = _keep(executed, places.runs / "failed" / f"{parameters['profile']}-{notebook.stem}.ipynb")
        name, reason = getattr(error, "ename", ""), getattr(error, "evalue", str(error).strip())
        reason += "; the same command continues" if isinstance(error, RuntimeError) else ""
        message = f"{notebook.name} stopped: {name}{': ' if name else ''}{reason}{kept}"
        raise (NonFinite if name == "NonFinite" else ReproductionError)(message) from error


def _verbatim(path: Path) -> str:
    """A path for papermill, which fills parameters into braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _keep(executed: Path, place: Path) -> str:
    """Save a failed notebook where the next attempt does not remove it; return what to tell the user."""
    if not executed.is_file():
        return ""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(executed, place)
    return f"\nThe notebook as far as it went: {place}"


@contextmanager
def _forwarded_signals(places: settings.Places) -> Iterator[tuple[type, list[int]]]:
    """Hand Ctrl-C and SIGTERM on to the kernel, whose training then saves its state and stops.

    Yields a kernel manager class for papermill, whose kernels start in :func:`_environment`, and the list of signals
    that came. A second signal, or one that comes before there is a kernel, interrupts this process itself. Only the
    main thread can do this; elsewhere nothing changes.
    """
    from jupyter_client.manager import AsyncKernelManager

    kernels: list[AsyncKernelManager] = []
    asked: list[int] = []
    environment = _environment(places)  # now: papermill changes to the kernel's folder before it starts one

    class Known(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
            return await super()._async_pre_start_kernel(**{"env": environment} | kwargs)

        async def _async_post_start_kernel(self, **kwargs: Any) -> None:
            await super()._async_post_start_kernel(**kwargs)
            kernels.append(self)

    def forward(number: int, frame: Any) -> None:
        asked.append(number)
        process = getattr(kernels[-1].provisioner, "pid", None) if kernels else None
        if len(asked) > 1 or process is None:
            raise KeyboardInterrupt
        os.kill(process, signal.SIGINT)

    with handling(forward):
        yield Known, asked


def _environment(places: settings.Places) -> dict[str, str]:
    """Ours, with the folders of this reproduction, and with PYTHONPATH as Python read it here: the kernel starts in
    another folder, and is to find the same. The folders are no parameters: those stand in what readers get.
    """
    folders = os.environ.get("PYTHONPATH", "")
    absolute = os.pathsep.join(os.path.abspath(folder) for folder in folders.split(os.pathsep))
    own = {"DATA_DIR": str(places.data), "RUNS_DIR": str(places.runs), "RESULTS_DIR": str(places.results)}
    return os.environ | own | ({"PYTHONPATH": absolute} if folders else {})


def _kernel_config() -> Any:
    """Encrypt the traffic with the kernel where both sides can: other users of the machine could read it."""
    import zmq
    from traitlets.config import Config

    return Config({"KernelManager": {"transport_encryption": "auto"}} if zmq.has("curve") else {})


def _finish(folder: Path, item: str, profile: str, root: Path, places: settings.Places) -> None:
    """See that the item is all there, tidy its executed notebook and write that as HTML."""
    import nbformat

    missing = [name for name in ("provenance.json", "verdict.json") if not (folder / name).is_file()]
    if not (folder / "table.csv").is_file() and not (folder / "picture.png").is_file():
        missing.append("table.csv or picture.png")
    if missing:
        raise ReproductionError(f"the notebook of {item} left no {', '.join(missing)}: it has to call item.save")
    path = folder / "notebook.ipynb"
    names = {folder: f"results/{profile}/{item}", **folder_names(root, places)}
    notebook = without_paths(tidy(nbformat.read(path, as_version=4)), names)
    write_atomic(path, nbformat.writes(notebook) + "\n")
    write_atomic(folder / "notebook.html", notebook_html(notebook, f"{item}, profile {profile}"))


# --- around it -------------------------------------------------------------------------------------------------------


def _log(item: str, profile: str, folder: Path, runs_dir: str | os.PathLike) -> None:
    """The copy on Weights & Biases: a summary run of the item."""
    import pandas as pd

    from resteutils.training import tracking

    table, picture = folder / "table.csv", folder / "picture.png"
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    tracking.log_item(
        item,
        profile,
        pd.read_csv(table) if table.is_file() else None,
        picture if picture.is_file() else None,
        folder,
        {"verdict": verdict["status"], "text": verdict["text"]},
        runs_dir,
    )


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
