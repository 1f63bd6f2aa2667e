"""The explorer's files, joined for a browser: one script for anywidget, one page for readers without a kernel."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from resteutils.data.sources import DATASETS
from resteutils.explorer.compact import compact, dumps
from resteutils.explorer.shelf import Shelf
from resteutils.explorer.specs import specs

__all__ = ["document", "page_data", "script", "style"]

# In the order in which they import each other; names at their top level differ, so that one scope holds them all.
MODULES = ("estimators", "chart", "state", "curve", "tradeoff", "training", "inside", "app")
_IMPORT, _EXPORT = re.compile(r"^import .*\n", re.MULTILINE), re.compile(r"^export (?!default)", re.MULTILINE)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ReSTE explorer</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2126; --soft: #5b6570; --paper: #ffffff; --line: #8a929a; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e7ea; --soft: #a3acb6; --paper: #15181b; --line: #6d757d; }} }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 1180px; margin: 0 auto; padding: 12px; }} h1 {{ font-size: 1.5rem; margin: .3rem 0 .6rem; }}
a {{ color: #0b5cad; }} @media (prefers-color-scheme: dark) {{ a {{ color: #7db7f0; }} }}
{style}
</style>
</head>
<body>
<main>
{head}
<div id="explorer"></div>
</main>
<script type="application/json" id="data">{data}</script>
<script type="module">
{script}
const data = JSON.parse(document.getElementById("data").textContent);
let moved = null;
const app = mount(document.getElementById("explorer"), data, {{
  link: location.hash.slice(1),
  changed: text => {{  // once the hand rests: browsers take long for it, and refuse it to whoever does it often
    clearTimeout(moved);
    moved = setTimeout(() => {{
      try {{ history.replaceState(null, "", `#${{text}}`); }} catch {{ /* a frame without an address */ }}
    }}, 150);
  }},
}});
addEventListener("hashchange", () => {{ if (location.hash.slice(1) !== app.link()) app.go(location.hash.slice(1)); }});
window.explorer = app;
</script>
</body>
</html>
"""
_HEAD = '<h1>ReSTE explorer</h1>\n<p><a href="index.html">All results</a></p>'


@cache
def script(entry: bool = True) -> str:
    """The ES module in one piece, as anywidget takes it; without ``entry`` it exports nothing, for a page's script."""
    folder = files("resteutils.explorer") / "static"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in MODULES]
    joined = "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
    return joined if entry else joined.replace("export default {render};", "")


@cache
def style() -> str:
    """The explorer's style sheet."""
    return (files("resteutils.explorer") / "static" / "style.css").read_text(encoding="utf-8")


def page_data(shelf: Shelf) -> dict[str, Any]:
    """What the page is given: the estimators, the measured runs, and a look inside the committed pair."""
    committed = files("resteutils.explorer") / "static" / "inside.json"
    return {
        "estimators": specs(),
        "datasets": {name: dataset.label for name, dataset in DATASETS.items()},
        "runs": compact(shelf.measured()),
        "inside": json.loads(committed.read_text(encoding="utf-8")),
    }


def document(results_dir: str = "", head: str = _HEAD) -> str:
    """The explorer as one HTML page: no kernel, no server, nothing loaded from elsewhere."""
    shelf = Shelf(results_dir=results_dir)
    return _PAGE.format(style=style(), head=head, data=dumps(page_data(shelf)), script=script(entry=False))
