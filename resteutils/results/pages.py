"""What the report's pages say: of each item what was found, as sentences, and what it rests on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from resteutils.data.sources import DATASETS
from resteutils.evidence import html
from resteutils.evidence.names import in_words, method
from resteutils.evidence.verdict import SUMMARY
from resteutils.recipes import PROFILES, item_recipes
from resteutils.system.durations import about

__all__ = ["entry", "lacking", "result", "verdict_of"]

FILES = {
    "notebook.html": "executed notebook",
    "notebook.ipynb": "the same as .ipynb",
    "table.csv": "table as CSV",
    "table.md": "table as Markdown",
    "picture.png": "picture",
    "provenance.json": "provenance",
}
# The order in which a reader wants them, and what each says of a claim.
SAID = {
    "contradicted": "The opposite is seen",
    "supported": "Seen here",
    "undecided": "Open",
}
CLAIMS = SUMMARY["The paper's claims"]
MOST = 3  # claims of an item that the start page names
# The counts with which a verdict's text begins: on these pages the sentences stand instead.
_COUNTS = re.compile(rf"^(?:(?:{'|'.join(SUMMARY)}): [^.]*\. ?|Nothing was checked\. ?)+")
_LIST = re.compile(r"[\d.](?:, [-+]?\d[\d.e+]*){2,}")
_BESIDE = re.compile(r" \(by [^)]*\)|, [\d.]+ degrees? of freedom|; Holm p .*$")


def verdict_of(folder: Path) -> dict[str, Any]:
    """Read an item's verdict, its texts with the methods' names; one that says so where there is none."""
    path = folder / "verdict.json"
    if not path.is_file():
        return {"status": "not claimed", "text": "This result carries no verdict.", "checks": []}
    verdict = json.loads(path.read_text(encoding="utf-8"))
    checks = [{**c, "claim": in_words(c["claim"]), "shown": in_words(c["shown"])} for c in verdict["checks"]]
    return {**verdict, "text": in_words(verdict["text"]), "checks": checks}


def entry(item: str, profiles: dict[str, Path]) -> dict[str, Any]:
    """What the start page says of an item: the profile that may claim most, its status, and one line of findings."""
    if not profiles:
        return {"profile": "", **lacking(item)}
    profile, folder = next(iter(profiles.items()))
    verdict = verdict_of(folder)
    return {"profile": profile, "status": verdict["status"], "line": _line(verdict)}


def lacking(item: str) -> dict[str, str]:
    """What is said of an item without a result: its status, what it needs that no command brings, and what its command
    takes.
    """
    recipes = item_recipes(item, "short")
    if not recipes or not all(DATASETS[each.dataset].streamed for each in recipes):
        return {"status": "not reproduced yet", "line": "", "takes": ""}
    line = "Not measured: it needs ImageNet, whose images only registered users get. DATA_DIR names their folder."
    return {"status": "needs ImageNet", "line": line, "takes": "PROFILE=short DATA_DIR=FOLDER"}


def _line(verdict: dict[str, Any]) -> str:
    deciding = [c for c in verdict["checks"] if c["kind"] in CLAIMS and c["status"] != "not claimed"]
    deciding = deciding or [c for c in verdict["checks"] if c["kind"] in ("formula", "control")]
    said = []
    for status, words in SAID.items():
        found = [f"{c['claim']}{_figure(c['shown'])}" for c in deciding if c["status"] == status]
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        said += [f"{words}: {'; '.join(found[:MOST])}{more}."] if found else []
    return " ".join(said) or _remarks(verdict)


def _figure(shown: str) -> str:
    """The first of a check's figures, in brackets; nothing where they are a list, of which one says nothing."""
    return "" if _LIST.search(shown) else f" ({re.split('[;,] ', shown)[0]})"


def _remarks(verdict: dict[str, Any]) -> str:
    return _COUNTS.sub("", verdict["text"]).strip()


def result(item: str, profile: str, folder: Path) -> dict[str, Any]:
    """What an item's page shows of one profile."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    trained, verdict = provenance["runs"] or provenance.get("diverged"), verdict_of(folder)
    return {
        "profile": profile,
        "worth": PROFILES[profile].worth if trained else "formulas, nothing is trained for this",
        "status": verdict["status"],
        "claims": _sentences(verdict, (*CLAIMS, "formula")),
        "controls": _sentences(verdict, ("control",)),
        "figures": [(c["claim"], c["shown"]) for c in verdict["checks"] if c["status"] == "not claimed"],
        "remarks": _remarks(verdict),
        "checks": verdict["checks"],
        "here": f"{profile}/{item}",
        "picture": (folder / "picture.png").is_file(),
        "caption": provenance["caption"],
        "table": _table(folder) if (folder / "table.html").is_file() else "",
        "files": [(name, text) for name, text in FILES.items() if (folder / name).is_file()],
        "facts": _facts(provenance),
    }


def _sentences(verdict: dict[str, Any], kinds: tuple[str, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of a heading and its (claim, figures)."""
    groups = []
    for status, words in SAID.items():
        found = [c for c in verdict["checks"] if c["status"] == status and c["kind"] in kinds]
        groups.append((words, [(c["claim"], _BESIDE.sub("", c["shown"])) for c in found]))
    return [(words, found) for words, found in groups if found]


def _table(folder: Path) -> str:
    """The table's page without its heading, rows by their names; all but the first section folded away."""
    body = html.body_of((folder / "table.html").read_text(encoding="utf-8")).split("</h1>", 1)[-1]
    body = re.sub(r"(<td[^>]*>)([^<]+)(?=</td>)", lambda cell: cell[1] + method(cell[2]), body)
    body = re.sub(r'(<p class="soft">)([^<]+)', lambda note: note[1] + in_words(note[2]), body)
    body = re.sub(r"<(/?)h2>", r"<\1h3>", body)
    first, *rest = body.split("<h3>")
    if not rest:
        return body
    remarks = f"<details><summary>How to read these numbers</summary>{first}</details>" if first.strip() else ""
    heading, content = rest[0].split("</h3>", 1)
    folded = [
        f"<details><summary>{heading}</summary>{content}</details>"
        for heading, content in (section.split("</h3>", 1) for section in rest[1:])
    ]
    return "\n".join([f"<h3>{heading}</h3>{content}", *folded, remarks])


def _facts(p: dict[str, Any]) -> list[tuple[str, str]]:
    runs = p["runs"]
    machines = Counter(_machine(run["machine"]) for run in runs) or Counter([_machine(p["machine"])])
    commits = sorted({(run["commit"] or "unknown")[:10] for run in runs})
    facts = {
        "Written": f"{p['created']}, commit {str(p['commit'])[:10]}{' with local changes' if p['dirty'] else ''}",
        "Runs": f"{len(runs)}, {about(p['wall_time_seconds'])} of training, commits {', '.join(commits)}"
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
