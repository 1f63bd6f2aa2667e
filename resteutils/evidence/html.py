"""The look of every HTML file this project writes: one page, one style sheet, no script, nothing loaded from elsewhere.

Pages read well on a phone and in dark mode and open from the disk; wide tables scroll inside their own box.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

__all__ = ["accessible", "body_of", "markdown", "page", "render", "table_html", "table_markdown", "verdict_html"]

# The box in which a table scrolls, by keyboard, too.
WIDE = '<div class="wide" tabindex="0" role="group" aria-label="table">'
_EMPTY_HEAD = re.compile(r"<th[^>]*>\s*</th>")
_BEGIN, _END = "<!-- body -->", "<!-- /body -->"


@functools.cache
def _templates(package: str) -> Environment:
    """The templates of a package, and ours, which escape what they are given; a name that is missing is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, __package__))])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, package: str = __package__, **values: Any) -> str:
    """Render a template of a package, ``templates/<template>`` beside its modules. Values are escaped.

    Raises ``LookupError`` where a value that the template names is missing.
    """
    from jinja2 import UndefinedError

    try:
        return _templates(package).get_template(template).render(values).rstrip("\n")
    except UndefinedError as error:
        raise LookupError(f"{template}: {error}") from error


def page(title: str, body: str, extra_style: str = "") -> str:
    """Return a complete HTML document around ``body``, which is HTML already."""
    return render("page.html", title=title, body=body, extra_style=extra_style) + "\n"


def body_of(document: str) -> str:
    """What :func:`page` was given: the way a report takes up a table that was written earlier.

    Raises ValueError where ``document`` is not one of our pages.
    """
    begin, end = document.find(_BEGIN), document.rfind(_END)
    if begin < 0 or end < begin:
        raise ValueError("not a page of this project: its body marks are missing")
    return document[begin + len(_BEGIN) : end].strip()


def verdict_html(verdict: dict) -> str:
    """Return a verdict (given as its dict) with its checks."""
    return render("verdict.html", verdict=verdict)


def accessible(body: str) -> str:
    """HTML that others made, for people who read by keyboard or ear: code scrolls, no header cell is without a word."""
    return _EMPTY_HEAD.sub("<td></td>", body).replace("<pre>", '<pre tabindex="0">')


def table_html(frame: pd.DataFrame) -> str:
    """Return a data frame as a table that scrolls in its own box; numbers are set to the right, NaN as a dash."""
    numeric = [_is_numeric(frame[column]) for column in frame.columns]
    head = [(str(column), _css("", number)) for column, number in zip(frame.columns, numeric, strict=True)]
    lines = [[_text(value) for value in line] for line in frame.itertuples(index=False)]
    rows = [[(text, _css(text, number)) for text, number in zip(line, numeric, strict=True)] for line in lines]
    return render("table.html", box=WIDE, head=head, rows=rows)


def table_markdown(frame: pd.DataFrame) -> str:
    """A data frame as a GitHub table; numeric columns are set to the right, NaN as a dash."""
    rule = ["---:" if _is_numeric(frame[column]) else "---" for column in frame.columns]
    cells = [[str(c) for c in frame.columns], *([_text(v) for v in line] for line in frame.itertuples(index=False))]
    head, *lines = ([cell.replace("|", "\\|") for cell in line] for line in cells)
    return markdown(head, lines, rule)


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]], rule: Sequence[str] = ()) -> str:
    """Rows of text as a GitHub table; ``rule`` says how each column is set, to the left where it is not given."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule or ["---"] * len(head), *lines))


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
        return "num"
    return "long" if len(text) > 48 and " " in text else ""  # names of runs stay in one piece
