"""The look of every HTML file this project writes: one page, one style sheet, no script, nothing loaded from elsewhere.

Pages read well on a phone and in dark mode and open from the disk; wide tables scroll inside their own box.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["badge", "body_of", "page", "table_html", "table_markdown", "verdict_html"]

_BEGIN, _END = "<!-- body -->", "<!-- /body -->"

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b6570; --paper: #ffffff; --panel: #f5f6f8; --line: #d9dde2;
  --link: #0b5cad; --good: #17693a; --good-bg: #dcf2e4; --bad: #a02121; --bad-bg: #fbe3e1; --open: #7a5200;
  --open-bg: #fbf0d2; --none: #4b5560; --none-bg: #e8ebee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a3acb6; --paper: #15181b; --panel: #1e2226;
  --line: #363c43; --link: #7db7f0; --good: #8fdcae; --good-bg: #14391f; --bad: #f5a6a0; --bad-bg: #471b18;
  --open: #ecc877; --open-bg: #3d2f0c; --none: #bcc4cc; --none-bg: #2c3238; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0 .8rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
a { color: var(--link); }
p { margin: .5rem 0; max-width: 46rem; }
.soft, figcaption, footer { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; margin: .7rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border: 0; border-collapse: separate; border-spacing: 0; width: 100%;
  font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .6rem; border: 0; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
td.long { white-space: normal; min-width: 15rem; }
th { background: var(--panel); font-weight: 600; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
th:first-child { background: var(--panel); }
tr:last-child td { border-bottom: 0; }
td.num, th.num { text-align: right; }
figure { margin: .8rem 0; }
img { max-width: 100%; height: auto; }
figure img, .shot { display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.badge { display: inline-block; padding: .08rem .6rem; border-radius: 1rem; font-size: .82rem; font-weight: 600;
  white-space: nowrap; }
.supported { color: var(--good); background: var(--good-bg); }
.contradicted { color: var(--bad); background: var(--bad-bg); }
.undecided { color: var(--open); background: var(--open-bg); } .none { color: var(--none); background: var(--none-bg); }
.checks { list-style: none; padding: 0; margin: .4rem 0; }
.checks li { padding: .3rem 0; border-top: 1px solid var(--line); }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--link); }
pre, code { font: .86rem/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
pre { overflow-x: auto; padding: .7rem .8rem; background: var(--panel); border-radius: 6px; margin: .6rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
@media (max-width: 40rem) { h1 { font-size: 1.4rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def page(title: str, body: str, extra_style: str = "") -> str:
    """A complete HTML document around ``body`` (HTML)."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{extra_style}</style>\n</head>\n"
        f"<body>\n<main>\n{_BEGIN}\n{body}\n{_END}\n</main>\n</body>\n</html>\n"
    )


def body_of(document: str) -> str:
    """What :func:`page` was given: the way a report takes up a table that was written earlier.

    Raises ValueError where ``document`` is not one of our pages.
    """
    begin, end = document.find(_BEGIN), document.rfind(_END)
    if begin < 0 or end < begin:
        raise ValueError("not a page of this project: its body marks are missing")
    return document[begin + len(_BEGIN) : end].strip()


def badge(status: str) -> str:
    """A small coloured label for a verdict."""
    css = status if status in ("supported", "contradicted", "undecided") else "none"
    return f'<span class="badge {css}">{escape(status)}</span>'


def verdict_html(verdict: dict, folded: bool = False) -> str:
    """A verdict (as its dict) with its checks, which ``folded`` puts behind a click."""
    lines = [f"<p>{badge(verdict['status'])} {escape(verdict['text'])}</p>"]
    if verdict["checks"]:
        lines.append(f"<details><summary>{len(verdict['checks'])} checks</summary>" if folded else "")
        lines.append('<ul class="checks">')
        for check in verdict["checks"]:
            asked = (
                f' <span class="soft">(tolerance: {escape(check["tolerance"])})</span>' if check["tolerance"] else ""
            )
            kind = '<span class="soft">control:</span> ' if check["kind"] == "control" else ""
            shown = f"{kind}{escape(check['claim'])}: {escape(check['shown'])}{asked}"
            lines.append(f"<li>{badge(check['status'])} {shown}</li>")
        lines.append("</ul></details>" if folded else "</ul>")
    return "\n".join(lines)


def table_html(frame: pd.DataFrame) -> str:
    """A data frame as an HTML table that scrolls in its own box; numbers are set to the right, NaN as a dash."""
    numeric = [_is_numeric(frame[column]) for column in frame.columns]
    cells = [[(_text(v), n) for v, n in zip(line, numeric, strict=True)] for line in frame.itertuples(index=False)]
    head = "".join(f"<th{_css('', n)}>{escape(str(c))}</th>" for c, n in zip(frame.columns, numeric, strict=True))
    rows = ["<tr>" + "".join(f"<td{_css(t, n)}>{escape(t)}</td>" for t, n in line) + "</tr>" for line in cells]
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + ("\n</tbody></table></div>")
    )


def table_markdown(frame: pd.DataFrame) -> str:
    """A data frame as a GitHub table; numeric columns are set to the right, NaN as a dash."""
    rule = ["---:" if _is_numeric(frame[column]) else "---" for column in frame.columns]
    lines = [list(map(str, frame.columns)), rule, *[[_text(v) for v in line] for line in frame.itertuples(index=False)]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _is_numeric(column: pd.Series) -> bool:
    """Numbers, or texts such as "70.00 ± 0.10" that a display table made of them."""
    if column.dtype.kind in "fiu":
        return True
    texts = [t for t in map(_text, column) if t != "-"]
    return bool(texts) and all(t[0].isdigit() or (t[0] in "+-−." and t[1:2].isdigit()) for t in texts)


def _text(value: object) -> str:
    if value is None or value != value or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _css(text: str, numeric: bool) -> str:
    if numeric:
        return ' class="num"'
    return ' class="long"' if len(text) > 48 and " " in text else ""  # names of runs stay in one piece
