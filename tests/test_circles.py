"""No circle of imports, neither between modules nor between the folders of a layer.

Every import counts: those inside functions and those for type checkers, too.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Graph = Mapping[str, set[str]]


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Yield the modules that a file imports; `from package import name` is `package.name` where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else str(node.module) for name in whole)


def imports_of(root: Path) -> dict[str, set[str]]:
    """Read which modules below `root` import which others; `root` is where Python looks for them."""
    paths = {_name(path, root): path for path in sorted(root.rglob("*.py"))}
    names = set(paths)
    return {
        name: {other for other in _imported(ast.parse(path.read_text()), names) if other in names} - {name}
        for name, path in paths.items()
    }


def folders_of(graph: Graph, layer: str) -> dict[str, set[str]]:
    """Take each folder of a layer, and each module that lies flat in it, for one node."""

    def node(module: str) -> str:
        return ".".join(module.split(".")[: layer.count(".") + 2])

    inside = {module: others for module, others in graph.items() if module.startswith(f"{layer}.")}
    merged: dict[str, set[str]] = {node(module): set() for module in inside}
    for module, others in inside.items():
        merged[node(module)] |= {node(other) for other in others if other in inside} - {node(module)}
    return merged


def circle(graph: Graph) -> str:
    """Name the modules of one circle, in the order in which they import each other; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as found:
        return " -> ".join(reversed(found.args[1]))
    return ""


SOURCE = imports_of(ROOT / "src")
LAYERS = sorted({".".join(name.split(".")[:2]) for name in SOURCE if name.count(".") > 1})


def test_modules_import_each_other_in_no_circle():
    assert len(SOURCE) > 250
    assert sum(map(len, SOURCE.values())) > 1000
    assert circle(SOURCE) == ""


@pytest.mark.parametrize("folder", ["benchmarks", "tools"])
def test_scripts_import_each_other_in_no_circle(folder):
    graph = imports_of(ROOT / folder)
    assert len(graph) > 3
    assert circle(graph) == ""


@pytest.mark.parametrize("layer", LAYERS)
def test_folders_of_a_layer_import_each_other_in_no_circle(layer):
    assert circle(folders_of(SOURCE, layer)) == ""


def test_layers_with_folders_are_looked_at():
    assert {"unirae.app", "unirae.training", "unirae.evaluation", "unirae.models", "unirae.data"} <= set(
        LAYERS
    )
    assert {"unirae.models.checkpoints", "unirae.models.rae"} <= folders_of(SOURCE, "unirae.models").keys()


def test_a_circle_is_named(tmp_path):
    files = {
        "a/__init__.py": "",
        "a/one.py": "from a.b import two\n",
        "a/b/__init__.py": "",
        "a/b/two.py": "import os\n\n\ndef f():\n    from a.b.three import x\n",
        "a/b/three.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from a.one import y\n",
        "a/four.py": "import a.one\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = imports_of(tmp_path)
    assert graph == {
        "a": set(),
        "a.one": {"a.b.two"},
        "a.b": set(),
        "a.b.two": {"a.b.three"},
        "a.b.three": {"a.one"},
        "a.four": {"a.one"},
    }
    named = circle(graph).split(" -> ")
    assert named[0] == named[-1]
    assert set(named) == {"a.one", "a.b.two", "a.b.three"}
    assert all(after in graph[before] for before, after in pairwise(named))
    assert folders_of(graph, "a") == {"a.one": {"a.b"}, "a.b": {"a.one"}, "a.four": {"a.one"}}
    assert circle({"a": {"b"}, "b": set()}) == ""
