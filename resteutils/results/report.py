"""``make report``: everything under results/ as one static HTML site.

``results/report/index.html`` answers first: what was found, at what budget. Behind it lie one page an item, the
explorer's page, README and ``docs/``, and copies of the files that they show. No server, nothing loaded from elsewhere.
Where an item stands in several profiles, the one that may claim most comes first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from resteutils.evidence import html
from resteutils.recipes import ITEMS, PROFILES
from resteutils.results import documents, pages
from resteutils.system import settings
from resteutils.system.files import heal, replaced, writable, write_atomic

__all__ = ["build"]

ASSETS = ("table.html", *pages.FILES)
# What a profile is worth, most first; smoke results are tests and are shown only where there is nothing else.
MOST_FIRST = tuple(reversed(PROFILES))


def build(
    results_dir: str | os.PathLike = "",
    out: str | os.PathLike = "",
    explorer: str = "",
    findings: Mapping[str, str] | None = None,
    picture: bytes = b"",
) -> Path:
    """Write the site and return its index.html.

    Arguments:
        results_dir: where the results are; see :func:`resteutils.system.settings.results_dir`.
        out: the site's folder, replaced as a whole; empty: ``<results_dir>/report``.
        explorer: the explorer's page as HTML; empty: the site has none.
        findings: Markdown for the start page: "findings", "findings-budget" and "findings-table".
        picture: the start page's picture, a PNG.
    """
    root = settings.results_dir(results_dir)
    target = Path(out).absolute() if out else root / "report"
    writable(target.parent, "out" if out else "RESULTS_DIR")
    found = {item: _results_of(root, item) for item in ITEMS}
    if not any(found.values()):
        print(f"{root} holds no finished item, so the report is empty: `resteutils reproduce ITEM` makes one")
    project = documents.checkout()
    top = html.render("top.html", __package__, explorer=bool(explorer), documents=project is not None)
    with replaced(target) as site:
        for item, profiles in found.items():
            for profile, folder in profiles.items():
                _copy(folder, site / profile / item)
            write_atomic(site / f"{item}.html", _item_page(item, found, top))
        if project:
            documents.write(project, site, top, _style())
        if explorer:
            write_atomic(site / "explorer.html", explorer)
        if picture:
            write_atomic(site / "findings.png", picture)
        said = {name: documents.as_html(text) for name, text in (findings or {}).items()}
        start = {"top": top, "said": said, "picture": bool(picture), "explorer": bool(explorer)}
        start |= {"citation": _citation(project), "models": _models(root, site)}
        write_atomic(site / "index.html", _index(found, **start))
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
        "verdict.json": lambda: (pages.entry(item, {profile: folder}), html.verdict_html(pages.verdict_of(folder))),
        "provenance.json": lambda: pages.result(item, profile, folder),
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


def _index(found: dict[str, dict[str, Path]], **values: Any) -> str:
    entries = [{"name": name, "title": ITEMS[name].title, **pages.entry(name, of)} for name, of in found.items()]
    present = [(p, PROFILES[p].worth) for p in PROFILES if any(p in profiles for profiles in found.values())]
    return _page("ReSTE reproduced", "index.html", items=entries, profiles=present, **values)


def _item_page(item: str, found: dict[str, dict[str, Path]], top: str) -> str:
    names, about = list(found), ITEMS[item]
    place = names.index(item)
    beside = [(each, ITEMS[each].title) for each in (names[place - 1] if place else "", *names[place + 1 : place + 2])
              if each]  # fmt: skip
    results = [pages.result(item, profile, folder) for profile, folder in found[item].items()]
    values = {"name": item, "title": about.title, "claim": about.claim, "notebook": about.notebook}
    values["lacking"] = pages.lacking(item)
    return _page(f"{about.title}: ReSTE reproduced", "item.html", results=results, beside=beside, top=top, **values)


def _page(heading: str, template: str, **values: Any) -> str:
    return html.page(heading, html.render(template, __package__, **values), _style())


def _style() -> str:
    return (files(__package__) / "templates" / "report.css").read_text(encoding="utf-8")


def _models(root: Path, site: Path) -> list[dict[str, Any]]:
    """The cards of the trained models beside the results, copied for the page to link to; a damaged one is said."""
    cards = []
    for path in sorted((root / "models").glob("*.json")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            cards.append({name: card[name] for name in ("name", "dataset", "epochs", "seed", "top1", "bytes")})
        except (OSError, ValueError, LookupError, TypeError) as error:
            print(f"{path} is left out of the report: not a model's card ({type(error).__name__}: {error})")
            continue
        (site / "models").mkdir(exist_ok=True)
        shutil.copyfile(path, site / "models" / path.name)
    return cards


def _citation(project: Path | None) -> str:
    """The text of CITATION.cff."""
    path = project / "CITATION.cff" if project else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else ""
