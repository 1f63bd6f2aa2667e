"""README and ``docs/`` as pages of the report, their links among each other and to the results kept."""

from __future__ import annotations

import os
import re
import shutil
from html import unescape
from pathlib import Path

from resteutils.evidence import html
from resteutils.system.files import write_atomic

__all__ = ["as_html", "checkout", "write"]

_LINK = re.compile(r'(<(a|img)\b[^>]*? (?:href|src)=")([^"#:]+)(#[^"]*)?(")')


def checkout() -> Path | None:
    """The checkout of this project that the package lies in; None where it is installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "README.md").is_file() and (root / "docs").is_dir() else None


def as_html(markdown: str) -> str:
    """Markdown as HTML; its tables scroll in their own box."""
    from mistune import create_markdown

    made = create_markdown(escape=False, plugins=["strikethrough", "table", "url"])(markdown)
    made = re.sub(r"<!--.*?-->", "", made, flags=re.DOTALL)
    made = re.sub(r' style="text-align: ?right;?"', ' class="num"', made)
    made = re.sub(r"<th(?=[ >])", '<th scope="col"', made)
    made = re.sub(r"<(h\d)>(.*?)(?=</h\d>)", lambda h: f'<{h[1]} id="{_anchor(h[2])}">{h[2]}', made)
    return html.accessible(made).replace("<table>", f"{html.WIDE}<table>").replace("</table>", "</table></div>")


def _anchor(heading: str) -> str:
    """The id of a heading as GitHub makes it, so that links within the documents lead where they do there."""
    text = unescape(re.sub(r"<.*?>", "", heading))
    return re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))


def write(root: Path, site: Path, top: str, style: str) -> None:
    """Write README and every page of ``docs/`` of a checkout below ``site``, with the pictures that they show.

    ``top`` is the line of links over each page, its addresses as seen from the start page; ``style``
    is that of the report's pages.
    """
    named = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for source in [*filter(Path.is_file, named), *sorted((root / "docs").glob("*.md"))]:
        place = (site / source.relative_to(root)).with_suffix(".html")
        place.parent.mkdir(parents=True, exist_ok=True)
        made = as_html(source.read_text(encoding="utf-8"))
        body = _LINK.sub(lambda link, source=source: _led(link, source, root, site), made)
        body = re.sub(r"<a data-gone>(.*?)</a>", r"\1", body, flags=re.DOTALL)
        back = os.path.relpath(site, place.parent)
        here = top if back == "." else top.replace('href="', f'href="{back}/')
        write_atomic(place, html.page(f"{source.stem}: ReSTE reproduced", f"{here}\n{body}", style))


def _led(link: re.Match[str], source: Path, root: Path, site: Path) -> str:
    """The link as it leads from the page: to another page, to a picture copied beside it, or nowhere."""
    before, tag, target, anchor, after = link.groups()
    aim = (source.parent / target).resolve()
    inside = aim.relative_to(root) if root in aim.parents else None
    if inside is not None and aim.suffix == ".md" and aim.is_file():
        return f"{before}{target.removesuffix('.md')}.html{anchor or ''}{after}"
    if inside is not None and tag == "img" and aim.is_file():
        from_site = Path(*inside.parts[1:]) if inside.parts[0] == "results" else inside
        if not (site / from_site).is_file():
            (site / from_site).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(aim, site / from_site)
        return f"{before}{os.path.relpath(site / from_site, (site / source.relative_to(root)).parent)}{after}"
    return "<a data-gone" if tag == "a" else link[0]
