"""The explorer: the estimators and what measured runs say of them, drawn by one ES module in the page.

``Explorer()`` shows it in a notebook with a kernel behind it; :func:`~resteutils.explorer.page.document` is the same as
a page of its own, without one. Importing this package draws and opens nothing.
"""

from __future__ import annotations

from resteutils.explorer.explorer import Explorer

__all__ = ["Explorer"]
