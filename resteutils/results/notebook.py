"""Executed notebooks as a reader wants them: tidied, and as HTML pages of this project's look."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resteutils.evidence import html
from resteutils.system.settings import Places

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["folder_names", "notebook_html", "tidy", "without_paths"]

# Tables of pandas: a box of their own to scroll in.
_FRAME = re.compile(r'<table border="1" class="dataframe">.*?</table>', re.DOTALL)
_BAR = re.compile(r"^.*\d+%\|.*\|.*$")


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Leave of an executed notebook what a reader wants: no progress bars, no dead widgets, prints in one piece."""
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook, _ = CoalesceStreamsPreprocessor(enabled=True)(notebook, {})  # as a terminal shows carriage returns, too
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if _worth_reading(output)]
    notebook["metadata"].pop("widgets", None)
    return notebook


def _worth_reading(output: NotebookNode) -> bool:
    """Whether anything is left of an output; bars are taken out of its text."""
    if output["output_type"] == "stream":
        output["text"] = "\n".join(line for line in output["text"].split("\n") if not _BAR.match(line))
        return bool(output["text"].strip())
    return "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def folder_names(root: Path, places: Places) -> dict[Path, str]:
    """Name the folders of this machine as a reader knows them: those of the project by what they hold, the project's
    own by nothing, and what is left of Python, of temporary files and of the user by a word.
    """
    return {
        places.data: "data",
        places.runs: "runs",
        places.results: "results",
        root: "",
        Path(sys.prefix): "python",
        Path(tempfile.gettempdir()): "tmp",
        Path.home(): "~",
    }


def without_paths(notebook: NotebookNode, names: Mapping[Path, str]) -> NotebookNode:
    """Write ``names`` for the folders of this machine wherever a text of the notebook has them: sources, outputs,
    metadata. Of two folders the inner one counts; an empty name takes the separator behind it away, too.
    """
    known: dict[str, str] = {}
    for folder, name in names.items():
        for place in (folder, folder.resolve()):
            if len(place.parts) > 1:  # "/" is no name of a folder of this machine
                known.setdefault(str(place), name)
    inner_first = "|".join(re.escape(place) for place in sorted(known, key=len, reverse=True))
    # Not in the middle of a longer path, nor of a picture's base64, which has slashes, too.
    pattern = re.compile(rf"(?:(?<![\w+/.~-])|(?<=://))({inner_first})(?![\w-])(/?)")

    def named(found: re.Match[str]) -> str:
        name, separator = known[found[1]], found[2]
        return name + separator if name else "" if separator else "."

    def every(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(named, value)
        if isinstance(value, dict):
            for key in value:
                value[key] = every(value[key])
        return [every(each) for each in value] if isinstance(value, list) else value

    return every(notebook)


def notebook_html(notebook: NotebookNode, title: str) -> str:
    """An executed notebook as one HTML page: no script, nothing loaded from elsewhere, fit for a phone and the dark."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(
        template_name="basic", embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    body = html.accessible(_FRAME.sub(lambda table: f"{html.WIDE}{table[0]}</div>", body))
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{_NOTEBOOK_STYLE}"
    return html.page(title, body, style)


_NOTEBOOK_STYLE = """
.highlight, .highlight pre { background: var(--panel); }
.highlight .c1 { color: var(--soft); } .highlight pre { margin: 0; }
.anchor-link, .jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none; }
.jp-Cell-inputWrapper, .input { margin: .7rem 0 .4rem; }
.dataframe thead th, .dataframe td { text-align: left; }
.output_area, .jp-OutputArea-child { margin: .4rem 0; overflow-x: auto; }
.jp-OutputArea-output img, .output_png img { background: #fff; border: 1px solid var(--line); border-radius: 6px; }
"""
