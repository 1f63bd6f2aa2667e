"""Run an item's notebook from its first cell to its last, headlessly, and keep what it made.

Papermill executes ``notebooks/<name>.ipynb`` with the project's root as working directory. Table, picture, verdict,
provenance and the executed notebook are completed in a folder beside ``results/<profile>/<item>/`` and take its place
together; a reproduction that fails or is killed leaves the previous result whole, and the next call continues from the
runs that are finished. The disk is the record; Weights & Biases gets a copy afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resteutils import pages, results, settings
from resteutils.folders import replaced

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["ReproductionError", "notebook_html", "notebook_of", "reproduce", "reproduce_all", "tidy"]


class ReproductionError(RuntimeError):
    """A notebook that did not run to its end, or did not leave what an item consists of."""


def notebook_of(item: str) -> Path:
    """The notebook of an item. Raises ValueError for an unknown item, FileNotFoundError where the file is missing."""
    from resteutils.recipes import ITEMS

    if item not in ITEMS:
        raise ValueError(f"unknown item {item!r}: the items are {', '.join(ITEMS)}")
    path = settings.project_root() / "notebooks" / f"{ITEMS[item].notebook}.ipynb"
    if not path.is_file():
        raise FileNotFoundError(f"{item} has no notebook {path}: run this inside a checkout of the project")
    return path


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
    **extra: Any,
) -> Path:
    """Reproduce one table or figure; return ``results/<profile>/<item>``.

    Arguments as in the notebooks' parameters cell: ``rows`` and ``seeds`` are comma-separated, "" and 0 mean the
    profile's own. ``extra`` are further parameters of that one notebook.

    Raises ValueError for an unknown item, profile or parameter, and ReproductionError where the notebook fails; the
    executed notebook then lies under ``<runs_dir>/failed/``.
    """
    from resteutils.recipes import PROFILES

    notebook, root = notebook_of(item), settings.project_root()
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}: use {', '.join(PROFILES)}")
    target = results.item_folder(item, profile, results_dir)
    parameters = {
        "profile": profile,
        "rows": rows if isinstance(rows, str) else ",".join(rows),
        "seeds": seeds if isinstance(seeds, str) else ",".join(map(str, seeds)),
        "epochs": int(epochs),
        "device": device,
        "data_dir": _from_root(settings.data_dir(data_dir), root),
        "runs_dir": _from_root(settings.runs_dir(runs_dir), root),
        "results_dir": _from_root(settings.results_dir(results_dir), root),
        **extra,
    }
    with replaced(target) as folder:
        _execute(notebook, folder, {**parameters, "out_dir": str(folder)}, root, settings.runs_dir(runs_dir))
        _finish(folder, item, profile, target, root)
    _log(item, profile, target)
    return target


def reproduce_all(profile: str = "demo", results_dir: str = "", **options: Any) -> list[Path]:
    """Reproduce every item in the paper's order, then write the report; a failing item does not stop the others.

    Raises ReproductionError at the end where items failed, naming them and why; ValueError for ``rows``, which belong
    to one item.
    """
    from resteutils import report
    from resteutils.recipes import ITEMS

    if options.pop("rows", ""):
        raise ValueError("rows belong to one item: name it, as in `resteutils reproduce table1 --rows resnet20-1w1a`")
    done, failed = [], {}
    for item in ITEMS:
        try:
            done.append(reproduce(item, profile=profile, results_dir=results_dir, **options))
        except Exception as error:  # reported below, with a non-zero exit
            failed[item] = f"{type(error).__name__}: {error}"
            _say(f"{item} FAILED: {failed[item]}")
    index = report.build(results_dir=results_dir)
    _say(f"{len(done)} of {len(ITEMS)} items reproduced in profile {profile}; report: {index}")
    if failed:
        reasons = "\n".join(f"  {item}: {why.splitlines()[0]}" for item, why in failed.items())
        raise ReproductionError(f"{len(failed)} of {len(ITEMS)} items failed:\n{reasons}")
    return done


def _from_root(folder: Path, root: Path) -> str:
    """The folder as the notebook gets it: relative to the root, its working directory, where it lies near it."""
    near = root == folder or root in folder.parents or root.parent in folder.parents
    return os.path.relpath(folder, root) if near else str(folder)


def _execute(notebook: Path, folder: Path, parameters: Mapping[str, Any], root: Path, runs_dir: Path) -> None:
    import papermill
    from papermill.exceptions import PapermillException

    known = papermill.inspect_notebook(str(notebook))
    unknown = sorted(set(parameters) - set(known))
    if unknown:  # papermill itself would warn and run with the defaults
        raise ValueError(f"{notebook.name} has no parameter {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    _say(f"{notebook.name}, profile {parameters['profile']}")
    executed = folder / "notebook.ipynb"
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=dict(parameters),
            kernel_name="python3",
            cwd=str(root),
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
        )
    except (PapermillException, RuntimeError) as error:  # RuntimeError: the kernel died
        kept = runs_dir / "failed" / f"{parameters['profile']}-{notebook.stem}.ipynb"
        if executed.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(executed, kept)
        reason = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else str(error).strip()
        raise ReproductionError(f"{notebook.name} stopped: {reason}\nThe notebook as far as it went: {kept}") from error


def _finish(folder: Path, item: str, profile: str, target: Path, root: Path) -> None:
    """See that the item is all there, tidy its executed notebook and write that as HTML."""
    import nbformat

    missing = [name for name in ("provenance.json", "verdict.json") if not (folder / name).is_file()]
    if not (folder / "table.csv").is_file() and not (folder / "picture.png").is_file():
        missing.append("table.csv or picture.png")
    if missing:
        raise ReproductionError(
            f"the notebook of {item} left no {', '.join(missing)}: it has to call results.save_item"
        )
    path = folder / "notebook.ipynb"
    text = path.read_text(encoding="utf-8")
    # Paths of this machine say nothing to a reader: the folder by its final name, everything else from the root.
    text = text.replace(_quoted(folder), _quoted(_from_root(target, root))).replace(_quoted(f"{root}{os.sep}"), "")
    notebook = tidy(nbformat.reads(text, as_version=4))
    settings.write_atomic(path, nbformat.writes(notebook) + "\n")
    settings.write_atomic(folder / "notebook.html", notebook_html(notebook, f"{item}, profile {profile}"))


def _quoted(value: object) -> str:
    return json.dumps(str(value))[1:-1]


# --- executed notebooks for reading ----------------------------------------------------------------------------------

_BAR = re.compile(r"^.*\d+%\|.*\|.*$")


def tidy(notebook: NotebookNode) -> NotebookNode:
    """An executed notebook as a reader wants it: no progress bars, no dead widgets, consecutive prints in one piece."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        kept: list[NotebookNode] = []
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                output["text"] = _settled(output["text"])
                if not output["text"].strip():
                    continue
                if kept and kept[-1]["output_type"] == "stream" and kept[-1]["name"] == output["name"]:
                    kept[-1]["text"] += output["text"]
                    continue
            elif "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                continue
            kept.append(output)
        cell["outputs"] = kept
    notebook["metadata"].pop("widgets", None)
    return notebook


def _settled(text: str) -> str:
    """What a terminal would show in the end: after a carriage return the line starts again; bars are left out."""
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(line for line in lines if not _BAR.match(line))


def notebook_html(notebook: NotebookNode, title: str) -> str:
    """An executed notebook as one HTML page: no script, nothing loaded from elsewhere, fit for a phone and the dark."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(
        template_name="basic", embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{_NOTEBOOK_STYLE}"
    return pages.page(title, body, style)


_NOTEBOOK_STYLE = """
.highlight, .highlight pre { background: var(--panel); } .highlight pre { margin: 0; }
.anchor-link, .jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none; }
.jp-Cell-inputWrapper, .input { margin: .7rem 0 .4rem; }
.output_area, .jp-OutputArea-child { margin: .4rem 0; overflow-x: auto; }
.jp-OutputArea-output img, .output_png img { background: #fff; border: 1px solid var(--line); border-radius: 6px; }
"""


# --- around it -------------------------------------------------------------------------------------------------------


def _log(item: str, profile: str, folder: Path) -> None:
    """The copy on Weights & Biases: a summary run of the item."""
    import pandas as pd

    from resteutils import tracking

    table, picture = folder / "table.csv", folder / "picture.png"
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    tracking.log_item(
        item,
        profile,
        pd.read_csv(table) if table.is_file() else None,
        picture if picture.is_file() else None,
        folder,
        {"verdict": verdict["status"], "text": verdict["text"]},
    )


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
