"""How a page looks to people who read it another way, by ``looks.js``, and by the pixels of a control."""

from __future__ import annotations

import io
from pathlib import Path

JS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").split("\n", 2)[2]  # without its two lines of comment


def objections(page, kind: str, within: str = "") -> list[str]:
    """What ``looks.js`` objects to: ``kind`` is unseen, small, crossed or outside."""
    return page.evaluate(f"within => {JS.strip()}.{kind}(within)", within)


def drawn(locator) -> float:
    """The share of an element's pixels that stand out from its most frequent colour, 3 to 1 or more."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).reshape(-1, 3) / 255
    linear = np.where(pixels <= 0.03928, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    values, counts = np.unique(light.round(3), return_counts=True)
    ground = values[counts.argmax()]
    contrast = (np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)
    return float((contrast >= 3).mean())
