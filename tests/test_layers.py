"""The layers of docs/index.md, as import-linter checks them; its contracts are in pyproject.toml."""

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


def test_slow_libraries_are_imported_where_they_are_used():
    """As ruff's TID253 says, which finds those that are put into one of our files."""
    pytest.importorskip("ruff")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID253", "--ignore-noqa"]
    found = subprocess.run([*ruff, "src"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    imports = "".join(f"import {name}\n" for name in SLOW)
    concise = [*ruff, "--output-format", "concise", "--stdin-filename", "src/unirae/data/source.py", "-"]
    refused = subprocess.run(concise, cwd=ROOT, input=imports, capture_output=True, text=True)
    assert all(f"`{name}` is banned" in refused.stdout for name in SLOW)
