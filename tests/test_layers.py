"""The layers of docs/index.md, as import-linter checks them; its contracts are in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SLOW = {"transformers", "timm", "datasets", "torch_fidelity", "matplotlib"}


def test_contracts_hold():
    """In a process of its own: import-linter's configuration of logging turns every other logger off for good."""
    pytest.importorskip("importlinter")
    call = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports('pyproject.toml', no_cache=True))"
    found = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "3 kept, 0 broken" in found.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "unirae").rglob("*.py")), ids=lambda path: path.stem)
def test_slow_libraries_are_imported_where_they_are_used(path):
    top = {
        name.split(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert not top & SLOW
