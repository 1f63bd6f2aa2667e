"""``make report``: everything under results/ as one static HTML site.

``results/report/index.html`` shows each item of the paper with its picture, published against measured, verdict,
profile and provenance, and links to the executed notebooks. It is plain HTML beside copied files: no server, no script,
nothing loaded from elsewhere. Where an item stands in several profiles, the one that may claim most comes first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from resteutils.evidence import html
from resteutils.recipes.profiles import PROFILES
from resteutils.system import settings
from resteutils.system.files import heal, replaced, write_atomic

__all__ = ["build"]

ASSETS = ("picture.png", "table.csv", "table.md", "table.html", "notebook.html", "notebook.ipynb", "provenance.json")
# What a profile is worth, most first; smoke results are tests and are shown only where there is nothing else.
MOST_FIRST = tuple(reversed(PROFILES))

_STYLE = """
.items { list-style: none; padding: 0; margin: 1rem 0 0; } .items li { display: flex; flex-wrap: wrap; gap: .2rem .7rem;
  align-items: baseline; padding: .35rem 0; border-top: 1px solid var(--line); }
.items a { flex: 1 1 9rem; } article { border-top: 2px solid var(--line); margin-top: 2.2rem; padding-top: .4rem; }
article h2 { margin-top: .6rem; } .links { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
"""


def build(results_dir: str | os.PathLike = "", out: str | os.PathLike = "", explorer: str = "") -> Path:
    """Write the site and return its index.html.

    Arguments:
        results_dir: where the results are; see :func:`resteutils.system.settings.results_dir`.
        out: the site's folder, replaced as a whole; empty: ``<results_dir>/report``.
        explorer: the explorer's page as HTML, linked from the index; empty: the site has none.
    """
    from resteutils.recipes import ITEMS

    root = settings.results_dir(results_dir)
    target = Path(out).absolute() if out else root / "report"
    found = {item: _results_of(root, item) for item in ITEMS}
    with replaced(target) as site:
        for item, profiles in found.items():
            for profile, folder in profiles.items():
                _copy(folder, site / profile / item)
        if explorer:
            write_atomic(site / "explorer.html", explorer)
        write_atomic(site / "index.html", _index(ITEMS, found, bool(explorer)))
    return target / "index.html"


def _results_of(root: Path, item: str) -> dict[str, Path]:
    """The item's finished folders, most telling profile first; smoke only where it is all there is."""
    folders = {profile: root / profile / item for profile in MOST_FIRST}
    for folder in folders.values():
        heal(folder)
    found = {p: folder for p, folder in folders.items() if _readable(item, p, folder)}
    return {p: f for p, f in found.items() if p != "smoke" or len(found) == 1}


def _readable(item: str, profile: str, folder: Path) -> bool:
    """Whether the folder holds a finished item; one with a file that is none is said and left out."""
    if not (folder / "provenance.json").is_file():
        return False
    shown = {
        "verdict.json": lambda: (_verdict(folder)["status"], html.verdict_html(_verdict(folder))),
        "provenance.json": lambda: _result(item, profile, folder, item),
    }
    for name, show in shown.items():
        try:
            show()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{name} is damaged ({type(error).__name__}: {error})"
            print(f"{folder} is left out of the report: {reason}; `make reproduce-{item}` makes it again")
            return False
    return True


def _copy(folder: Path, site: Path) -> None:
    site.mkdir(parents=True)
    for name in ASSETS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, site / name)


def _index(items: dict[str, Any], found: dict[str, dict[str, Path]], explorer: bool) -> str:
    shown = [
        {
            "name": name,
            "title": items[name].title,
            "claim": items[name].claim,
            "results": [_result(name, profile, folder, items[name].title) for profile, folder in profiles.items()],
        }
        for name, profiles in found.items()
    ]
    present = [(p, PROFILES[p].worth) for p in MOST_FIRST if any(p in profiles for profiles in found.values())]
    body = html.render("report.html", __package__, items=shown, explorer=explorer, profiles=present)
    return html.page("ReSTE reproduced", body, _STYLE)


def _result(item: str, profile: str, folder: Path, title: str) -> dict[str, Any]:
    """What the page shows of an item's folder."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    trained, verdict = provenance["runs"] or provenance.get("diverged"), _verdict(folder)
    links = {"notebook.html": "executed notebook", "notebook.ipynb": "as .ipynb", "table.csv": "table as CSV"}
    links |= {"table.html": "table alone", "provenance.json": "provenance"}
    return {
        "title": title,
        "profile": profile,
        "worth": PROFILES[profile].worth if trained else "formulas, nothing is trained for this",
        "status": verdict["status"],
        "verdict": html.verdict_html(verdict, folded=True),
        "here": f"{profile}/{item}",
        "picture": (folder / "picture.png").is_file(),
        "caption": provenance["caption"],
        "table": _table(folder) if (folder / "table.html").is_file() else "",
        "links": [(name, text) for name, text in links.items() if (folder / name).is_file()],
        "facts": _facts(provenance),
    }


def _table(folder: Path) -> str:
    """The table's page without its heading; all but the first section folded away."""
    body = html.body_of((folder / "table.html").read_text(encoding="utf-8")).split("</h1>", 1)[-1]
    first, *rest = body.split("<h3>")
    if not rest:
        return body
    shown = f"{first}<h3>{rest[0]}"
    folded = []
    for section in rest[1:]:
        heading, content = section.split("</h3>", 1)
        folded.append(f"<details><summary>{heading}</summary>{content}</details>")
    return "\n".join([shown, *folded])


def _verdict(folder: Path) -> dict[str, Any]:
    path = folder / "verdict.json"
    if not path.is_file():
        return {"status": "not claimed", "text": "This result carries no verdict.", "checks": []}
    return json.loads(path.read_text(encoding="utf-8"))


def _facts(p: dict[str, Any]) -> list[tuple[str, str]]:
    runs = p["runs"]
    machines = Counter(_machine(run["machine"]) for run in runs) or Counter([_machine(p["machine"])])
    commits = sorted({(run["commit"] or "unknown")[:10] for run in runs})
    facts = {
        "Written": f"{p['created']}, commit {str(p['commit'])[:10]}{' with local changes' if p['dirty'] else ''}",
        "Runs": f"{len(runs)}, {_duration(p['wall_time_seconds'])} of training, commits {', '.join(commits)}"
        if runs
        else "none",
        "Machines": "; ".join(f"{name} ({n} runs)" if runs else name for name, n in machines.items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in p["versions"].items() if version),
        "Recipes": ", ".join(f"{row} {h}" for row, h in dict.fromkeys((r["row"], r["recipe"]) for r in runs)),
    }
    return [(name, text) for name, text in facts.items() if text]


def _machine(m: dict[str, Any]) -> str:
    parts = [m.get("gpu") or m.get("cpu") or "unknown machine"]
    if not m.get("gpu") and m.get("threads"):
        parts.append(f"{m['threads']} of {m.get('cores')} cores")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
