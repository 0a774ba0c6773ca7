"""Several modules as one file: what is reached, in order, and what cannot be said that way."""

import sys
from pathlib import Path
from typing import Any

import pytest

from unirae.models.interop import standalone
from unirae.models.interop.standalone import standalone_source


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write modules of a package that stands for ours."""
    monkeypatch.setattr(standalone, "PACKAGE", "house")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "house").mkdir()
    (tmp_path / "house/__init__.py").touch()

    def write(**modules: str) -> None:
        for name, text in modules.items():
            (tmp_path / f"house/{name}.py").write_text(text)

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "house"]:
        del sys.modules[name]


def test_what_is_reached_comes_along_dependencies_first(package: Any):
    package(
        base='"""Base."""\nimport math\nimport os\n\nTAU = 2 * math.pi\n"""A turn."""\nUNUSED = os.sep\n',
        middle="from house.base import TAU as TURN\nimport functools\n\n\n@functools.cache\ndef turns(n):\n"
        "    return n * TURN\n",
        top='"""Top."""\nfrom jaxtyping import Float\nfrom house.middle import turns\n\n\n'
        'def run(x: Float[int, "b"]):\n'
        "    return turns(x)\n",
    )
    text = standalone_source("house.top", header="Written.")
    assert "UNUSED" not in text
    assert "import os" not in text
    assert '"""A turn."""' in text
    assert "house import" not in text
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert scope["run"](1) == pytest.approx(6.28, abs=0.01)
    assert scope["__doc__"] == "Written."


def test_one_name_for_two_things_is_refused(package: Any):
    package(
        a="_SIZE = 1\n\n\ndef a():\n    return _SIZE\n",
        b="_SIZE = 2\n\n\ndef b():\n    return _SIZE\n",
        top="from house.a import a\nfrom house.b import b\n\n\ndef both():\n    return a(), b()\n",
    )
    with pytest.raises(ValueError, match=r"_SIZE means one thing in house\.a and another in house\.b"):
        standalone_source("house.top", header="")


def test_imports_that_cannot_be_resolved_are_refused(package: Any):
    package(
        a="def late():\n    from house.b import b\n    return b\n",
        b="b = 1\n",
        c="from house import b\nd = b\n",
    )
    with pytest.raises(ValueError, match=r"house\.a imports house\.b inside a function"):
        standalone_source("house.a", header="")
    with pytest.raises(ValueError, match="which does not define it"):
        standalone_source("house.c", header="")
