"""docs/extending.md: its files exist, its registries are where it says, and nothing that is registered is left out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| a")
]
NAMES = [row[0] for row in ROWS]


def test_the_table_has_what_is_asked_for():
    asked = "prediction target, optimizer, encoder family, condition, data source, stage, command"
    for what in asked.split(", "):
        assert any(name.endswith(what) for name in NAMES), what
    assert sum("metric" in name for name in NAMES) == 2


@pytest.mark.parametrize(("registry", "files", "tests"), [row[1:] for row in ROWS], ids=NAMES)
def test_files_exist_and_registries_are_where_it_says(registry, files, tests):
    file, name = re.fullmatch(r"`(.*)`: `(\w+)`", registry).groups()
    named = {
        node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else ast.unparse(target)
        for node in ast.parse((ROOT / file).read_text()).body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign)
    }
    assert name in named
    for cell in (files, tests):
        paths = re.findall(r"`([^`]+)`", cell)
        assert paths
        assert [path for path in paths if not (ROOT / path).is_file()] == []
    assert all(path.startswith("tests/") for path in re.findall(r"`([^`]+)`", tests))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_explained(name):
    thing = re.sub(r"^an? ", "", name).split(" of ")[0].removesuffix(" family").removeprefix("diffusion ")
    assert re.search(rf"^\*\*An? {thing}", PAGE, re.M) or thing == "transformer"


@pytest.mark.parametrize("name", NAMES)
def test_at_most_ten_files_are_touched(name):
    files = next(row[2] for row in ROWS if row[0] == name)
    assert 1 <= len(re.findall(r"`[^`]+`", files)) <= 10
