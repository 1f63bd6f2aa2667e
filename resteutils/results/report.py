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
from html import escape
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

WORTH = {name: profile.worth for name, profile in PROFILES.items()}

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
        "verdict.json": lambda: (_entry(item, item, {profile: folder}), html.verdict_html(_verdict(folder))),
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
    lines = ["<h1>ReSTE reproduced</h1>"]
    lines.append(
        "<p>Every table and figure of <em>Estimator Meets Equilibrium Perspective: A Rectified Straight Through "
        "Estimator for Binary Neural Networks Training</em> (Wu, Zheng, Liu, Zheng; ICCV 2023), measured by this "
        "project beside what was published. A verdict claims no more than its profile can carry.</p>"
    )
    if explorer:
        lines.append('<p><a href="explorer.html">The explorer: drag the power o and see what it does</a></p>')
    lines.append('<ul class="items">')
    lines += [_entry(item, items[item].title, profiles) for item, profiles in found.items()]
    lines.append("</ul>")
    lines += [_article(item, items[item], profiles) for item, profiles in found.items()]
    lines.append(_profiles(found))
    return html.page("ReSTE reproduced", "\n".join(lines), _STYLE)


def _entry(item: str, title: str, profiles: dict[str, Path]) -> str:
    if not profiles:
        return f'<li><a href="#{item}">{escape(title)}</a> {html.badge("not reproduced yet")}</li>'
    profile, folder = next(iter(profiles.items()))
    status = _verdict(folder)["status"]
    return f'<li><a href="#{item}">{escape(title)}</a> <span class="soft">{profile}</span> {html.badge(status)}</li>'


def _article(item: str, about: Any, profiles: dict[str, Path]) -> str:
    lines = [f'<article id="{item}">', f"<h2>{escape(about.title)}</h2>", f"<p>{escape(about.claim)}</p>"]
    if not profiles:
        lines.append(f"<p>Not reproduced yet: <code>make reproduce-{item}</code></p>")
    for index, (profile, folder) in enumerate(profiles.items()):
        block = _result(item, profile, folder, about.title)
        if index:
            block = f"<details><summary>The same in profile {profile}</summary>\n{block}\n</details>"
        lines.append(block)
    return "\n".join([*lines, "</article>"])


def _result(item: str, profile: str, folder: Path, title: str) -> str:
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    trained = provenance["runs"] or provenance.get("diverged")
    worth = WORTH[profile] if trained else "formulas, nothing is trained for this"
    lines = [f"<h3>Profile {profile}: {worth}</h3>", html.verdict_html(_verdict(folder), folded=True)]
    here = f"{profile}/{item}"
    if (folder / "picture.png").is_file():
        alternative = escape(f"{title}, profile {profile}")
        image = f'<a href="{here}/picture.png"><img src="{here}/picture.png" alt="{alternative}"></a>'
        said = "" if (folder / "table.html").is_file() else f"<figcaption>{escape(provenance['caption'])}</figcaption>"
        lines.append(f"<figure>{image}{said}</figure>")
    if (folder / "table.html").is_file():
        lines.append(_table(folder))
    links = {"notebook.html": "executed notebook", "notebook.ipynb": "as .ipynb", "table.csv": "table as CSV"}
    links |= {"table.html": "table alone", "provenance.json": "provenance"}
    anchors = [f'<a href="{here}/{n}">{text}</a>' for n, text in links.items() if (folder / n).is_file()]
    lines.append(f'<p class="links">{" ".join(anchors)}</p>')
    lines.append(_provenance(provenance))
    return "\n".join(lines)


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


def _provenance(p: dict[str, Any]) -> str:
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
    entries = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<details><summary>Where these numbers come from</summary><dl>{entries}</dl></details>"


def _machine(m: dict[str, Any]) -> str:
    parts = [m.get("gpu") or m.get("cpu") or "unknown machine"]
    if not m.get("gpu") and m.get("threads"):
        parts.append(f"{m['threads']} of {m.get('cores')} cores")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _profiles(found: dict[str, dict[str, Path]]) -> str:
    present = [p for p in MOST_FIRST if any(p in profiles for profiles in found.values())]
    entries = "".join(f"<dt>{p}</dt><dd>{WORTH[p]}</dd>" for p in present)
    return f"<footer><h3>Profiles</h3><dl>{entries}</dl></footer>" if entries else ""
