"""Blocks of a text that code writes: what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["blocks", "replaced"]

_BLOCK = re.compile(r"<!-- begin ([\w-]+) -->\n(.*?)<!-- end \1 -->", re.DOTALL)
_MARK = re.compile(r"<!-- (?:begin|end) ([\w-]+) -->")


def blocks(text: str) -> dict[str, str]:
    """Return the content of every block by name, without the markers.

    >>> blocks("a\\n<!-- begin x -->\\n1\\n<!-- end x -->\\n")
    {'x': '1\\n'}

    Raises ValueError for a marker that has no partner, and for a name that stands twice.
    """
    found = [(match[1], match[2]) for match in _BLOCK.finditer(text)]
    names = [name for name, _ in found]
    if alone := [name for name in _MARK.findall(text) if _MARK.findall(text).count(name) != 2 or name not in names]:
        raise ValueError(f"marker {alone[0]!r}: expected one <!-- begin NAME --> with one <!-- end NAME --> after it")
    return dict(found)


def replaced(text: str, new: Mapping[str, str]) -> str:
    """Return the text with the blocks named in ``new`` replaced; other blocks, and names without a block, stay.

    >>> replaced("<!-- begin x -->\\nold\\n<!-- end x -->", {"x": "new", "y": "unused"})
    '<!-- begin x -->\\nnew\\n<!-- end x -->'

    Raises ValueError as :func:`blocks`.
    """
    blocks(text)

    def block(match: re.Match[str]) -> str:
        content = new.get(match[1])
        return match[0] if content is None else f"<!-- begin {match[1]} -->\n{content.strip()}\n<!-- end {match[1]} -->"

    return _BLOCK.sub(block, text)
