"""Public names have types, the lazy ones too: mypy and pyright accept a program that uses them, not a wrong one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import resteutils as ru

CONSUMER = Path(__file__).parents[1] / "typing" / "consumer.py"
CHECKERS = {
    "mypy": ["-m", "mypy", "--config-file", str(CONSUMER.with_name("mypy.ini"))],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}
WRONG = """
import resteutils as ru
ru.load_or_train("not a recipe")
ru.ReSTE(o="three")
ru.no_such_name
"""


def test_the_package_says_that_it_has_types_and_every_lazy_name_is_public() -> None:
    assert (Path(ru.__file__).parent / "py.typed").is_file()
    assert set(ru._LAZY) <= set(ru.__all__)
    assert len(set(ru.__all__)) == len(ru.__all__)
    for name, module in ru._LAZY.items():
        assert getattr(ru, name) is getattr(importlib.import_module(f"resteutils.{module}"), name)


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_reads_the_types(checker: str, root: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed: pip install 'resteutils[dev]'")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")

    cache = ["--cache-dir", str(tmp_path / "cache")] if checker == "mypy" else []
    command = [sys.executable, *CHECKERS[checker], *cache, str(CONSUMER), str(wrong)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=root).stdout
    errors = re.findall(r"^\s*(\S+\.py):(\d+).*error", said, re.MULTILINE)
    found = {(Path(file).name, int(line)) for file, line in errors}
    assert found == {("wrong.py", 3), ("wrong.py", 4), ("wrong.py", 5)}, said
