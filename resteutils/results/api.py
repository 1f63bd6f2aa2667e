"""The public names in one page, ``docs/api.md``, from their docstrings; ``python -m resteutils.results.api``
writes it."""

from __future__ import annotations

import inspect
import re
from typing import Any

import resteutils
from resteutils.system.files import write_atomic
from resteutils.system.settings import project_root

__all__ = ["page"]

HEAD = """# The public names

`import resteutils as ru`. Written from the docstrings by `python -m resteutils.results.api`; a test compares.
"""
SECTIONS = {  # by the folder that a name comes from
    "estimators": "Estimators",
    "nn": "Binary layers, conversion, annealing, indicators",
    "models": "Networks",
    "recipes": "Recipes",
    "data": "Datasets",
    "runs": "Runs",
    "onebit": "One bit",
    "results": "Items",
}
VALUES = {  # public values that are no functions or classes: where they belong, and what they hold
    "ESTIMATORS": ("estimators", "Estimators by name."),
    "MODELS": ("models", "Networks by name: functions that build them."),
    "ITEMS": ("recipes", "Tables and figures by name, with their rows."),
    "PROFILES": ("recipes", "Profiles by name."),
    "DATASETS": ("data", "Datasets by name."),
}


def page() -> str:
    """The page as Markdown."""
    entries: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name in sorted(resteutils.__all__, key=str.lower):
        thing = getattr(resteutils, name)
        if name in VALUES:
            section, said = VALUES[name]
            entries[section].append(f"### `ru.{name}`\n\n{said}\n")
        else:
            section = thing.__module__.split(".")[1]
            entries[section].append(f"### `ru.{name}{_arguments(thing)}`\n\n{_told(thing)}\n")
    return "\n".join([HEAD, *(f"## {title}\n\n" + "\n".join(entries[section]) for section, title in SECTIONS.items())])


def _arguments(thing: Any) -> str:
    """The arguments with their defaults; without annotations, whose text depends on the version of Python."""
    parameters = inspect.signature(thing).parameters.values()
    return str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters]))


def _told(thing: Any) -> str:
    """The docstring as Markdown; of a class its public methods as well."""
    parts = [_markdown(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        own = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
        for name, value in own.items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(function) and function.__doc__:
                call = "" if isinstance(value, property) else _arguments(function)
                first = _markdown(inspect.getdoc(function) or "").split("\n\n")[0]
                parts.append(f"* `.{name}{call}`: {' '.join(first.split())}")
    return "\n".join([parts[0], *([""] if len(parts) > 1 else []), *parts[1:]])


def _markdown(text: str) -> str:
    """reStructuredText of docstrings: roles and literals as code, indented blocks as they are."""
    text = re.sub(r":\w+:`~?(?:resteutils\.)?([^`]+)`", r"`\1`", text)
    text = text.replace("``", "`").replace("\\|", "|")
    text = re.sub(r"^Arguments:$", "Arguments:\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w[\w, ]*): ", r"* `\1`: ", text, flags=re.MULTILINE)
    text = re.sub(r"^        (?=\S)", "  ", text, flags=re.MULTILINE)
    blocks = re.split(r"\n\n", text)
    return "\n\n".join(f"```pycon\n{block}\n```" if block.startswith(">>> ") else block for block in blocks)


if __name__ == "__main__":
    print(write_atomic(project_root() / "docs" / "api.md", page()))
