"""What the rows of the tables are called in sentences and pictures; the ids stay what commands and records use."""

from __future__ import annotations

import functools
import re

from resteutils.recipes import ITEMS

__all__ = ["in_words", "method"]

METHODS = {
    "ste": "STE",
    "ste-identity": "STE without clip",
    "dsq": "DSQ",
    "ede": "EDE",
    "fda": "FDA",
    "rbnn": "RBNN",
    "reste": "ReSTE",
    "ste-gain": "STE with gain",
    "ste-gain-clip": "STE with gain and clip",
    "reste-o1": "STE with ReSTE's clip",
    "reste-weights": "ReSTE on weights only",
    "reste-activations": "ReSTE on activations only",
    "ede-weights": "EDE on weights only",
    "approxsign": "ApproxSign",
    "swishsign": "SwishSign",
    "reste-linear": "ReSTE by a linear path",
    "reste-standardised": "ReSTE on standardised weights",
    "reste-random-gate": "ReSTE with a random gate at zero",
    "reste-half-gate": "ReSTE with a half-open gate at zero",
    "reste-early": "ReSTE with larger gradients in early layers",
}
ENDINGS = {
    "before": "scaled before",
    "adam": "by Adam",
    "decay": "with weight decay 5e-3",
    "long": "at four times the epochs",
    "proxy": "on the proxy",
    "hardtanh": "with IR-Net's Hardtanh",
}
NETWORKS = {"resnet": "ResNet-", "vgg": "VGG"}
_NETWORK = re.compile(r"(resnet|vgg)(\d+|-small)(-bireal)?-(o[\d.]+|\d+w\d+a|fp)(-ste)?(?:-(\d+)ep-b(\d+))?")
_POWER = re.compile(r"o([\d.]+)")


def method(row: str) -> str:
    """Name a row as a reader would; a row that is not known keeps its id.

    >>> method("ste-gain-clip"), method("resnet20-1w1a-ste"), method("o10")
    ('STE with gain and clip', 'ResNet-20 1/1 STE', 'o = 10')
    """
    if row in METHODS:
        return METHODS[row]
    base, _, ending = row.rpartition("-")
    if base in METHODS and ending in ENDINGS:
        return f"{METHODS[base]} {ENDINGS[ending]}"
    if power := _POWER.fullmatch(row):
        return f"o = {power[1]}"
    return _of_network(found) if (found := _NETWORK.fullmatch(row)) else row


def _of_network(found: re.Match[str]) -> str:
    family, size, bireal, what, ste, epochs, batch = found.groups()
    words = [NETWORKS[family] + size + " Bi-Real" * bool(bireal)]
    if power := _POWER.fullmatch(what):
        words.append(f"at o = {power[1]}")
    elif what == "fp":
        words.append("float")
    else:
        words += ["/".join(re.findall(r"\d+", what)), "STE" if ste else "ReSTE"]
    return " ".join(words + ([f"({epochs} epochs, batch {batch})"] if epochs else []))


@functools.cache
def _rows() -> re.Pattern[str]:
    known = {row for item in ITEMS.values() for row in item.rows if method(row) != row}
    longest_first = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.compile(rf"(?<![\w/.-])(?:{longest_first})(?![\w/-]|\.\d)")


def in_words(text: str) -> str:
    """Write the names of rows in place of their ids.

    >>> in_words("reste above ste-gain: run resnet20-1w1a-ste-cifar10-10ep")
    'ReSTE above STE with gain: run resnet20-1w1a-ste-cifar10-10ep'
    """
    return _rows().sub(lambda found: method(found[0]), text)
