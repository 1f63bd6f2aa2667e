"""What docs/running.md says: its table of profiles, and its script that stages datasets, run as a Slurm job runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from resteutils.recipes import ITEMS, PROFILES, default_seeds, item_recipes

pytestmark = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("flock")), reason="bash or util-linux's flock is not installed"
)

LONG = {"table": "Table", "figure": "Figure"}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profiles_are_told_as_they_are(root: Path, profile: str) -> None:
    page = (root / "docs" / "running.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{profile}`[^|]*\|(.*)\|$", page, re.MULTILINE)[1]
    _, seeds, first, every = (cell.strip() for cell in row.split("|"))
    with_runs = [item for item in ITEMS if ITEMS[item].rows]
    counts = {item: len(default_seeds(item, profile)) for item in with_runs}
    usual = max(counts.values())
    fewer = [re.sub(r"(table|figure)(\d)", lambda m: f"{LONG[m[1]]} {m[2]}", i) for i in counts if counts[i] < usual]
    assert seeds == f"{usual}; {' and '.join(fewer)}: 1" if fewer else seeds == str(usual)
    assert int(first) == len(item_recipes("table1", profile))
    assert int(every) == len({recipe.run_id for item in with_runs for recipe in item_recipes(item, profile)})


class Node:
    """A node whose jobs source the script; ``/shared`` and ``/tmp/$USER`` are folders of the test."""

    def __init__(self, root: Path, folder: Path) -> None:
        page = (root / "docs" / "running.md").read_text(encoding="utf-8")
        script = re.search(r"^# stage\.sh.*?(?=^```)", page, re.MULTILINE | re.DOTALL)[0]
        self.shared, self.disk, self.script = folder / "shared", folder / "node", folder / "stage.sh"
        assert "/shared/data" in script and "/tmp/$USER" in script
        self.script.write_text(script.replace("/shared", str(self.shared)).replace("/tmp/$USER", str(self.disk)))
        (self.shared / "data" / "set").mkdir(parents=True)
        (self.shared / "data" / "set" / "images").write_text("all of them")

    def jobs(self, count: int = 1) -> set[str]:
        """The DATA_DIR that each of so many jobs sees, which start at once."""
        command = ["bash", "-c", f"source '{self.script}'; printf %s \"$DATA_DIR\""]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return {job.communicate(timeout=60)[0] for job in started}

    def holds(self) -> dict[str, str]:
        """Every file on the disk, and what stands in it."""
        files = [path for path in self.disk.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.disk)): path.read_text() for path in files}


@pytest.fixture
def node(root: Path, tmp_path: Path) -> Node:
    return Node(root, tmp_path)


STAGED = {"lock": "", "data/set/images": "all of them"}


@pytest.mark.parametrize("jobs", [1, 4])
def test_jobs_of_a_node_copy_the_data_once(node: Node, jobs: int) -> None:
    assert node.jobs(jobs) == {str(node.disk / "data")}
    assert node.holds() == STAGED


@pytest.mark.parametrize("part", ["set/images", "left"])
def test_what_a_killed_job_copied_in_part_is_copied_again(node: Node, part: str) -> None:
    half = node.disk / "data.part" / part
    half.parent.mkdir(parents=True)
    half.write_text("half")
    assert node.jobs(2) == {str(node.disk / "data")}
    assert node.holds() == STAGED


def test_data_that_is_staged_already_stays(node: Node) -> None:
    (node.disk / "data").mkdir(parents=True)
    (node.disk / "data" / "mine").write_text("here")
    assert node.jobs() == {str(node.disk / "data")}
    assert node.holds() == {"lock": "", "data/mine": "here"}


def test_jobs_read_the_shared_data_where_the_disk_takes_none(node: Node) -> None:
    node.disk.write_text("a file, not a folder")
    assert node.jobs() == {str(node.shared / "data")}


def test_jobs_of_a_later_time_copy_what_could_not_be_copied_before(node: Node) -> None:
    (node.shared / "data").rename(node.shared / "away")
    assert node.jobs() == {str(node.shared / "data")} and node.holds() == {"lock": ""}
    (node.shared / "away").rename(node.shared / "data")
    assert node.jobs() == {str(node.disk / "data")} and node.holds() == STAGED
