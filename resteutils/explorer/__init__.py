"""The explorer: sliders over the same estimator objects that train the networks.

``Explorer()`` holds one set of sliders; each of its methods shows a panel that follows them. With ``interactive=False``
every panel is a picture, for notebooks that run without a reader. Importing this package draws and opens nothing.
"""

from __future__ import annotations

from resteutils.explorer.explorer import Explorer

__all__ = ["Explorer"]
