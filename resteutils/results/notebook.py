"""Executed notebooks as a reader wants them: tidied, and as HTML pages of this project's look."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resteutils.evidence import html

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["notebook_html", "tidy"]

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
