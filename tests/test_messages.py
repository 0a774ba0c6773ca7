"""Below ``app`` messages name arguments as Python has them: no flag of a command, no key of a configuration."""

import ast
import re
from pathlib import Path

import pytest

from unirae.app.shell import cli
from unirae.app.shell.argument_names import NAMES
from unirae.core.arguments import argument, called
from unirae.core.errors import ConfigError

SOURCE = Path(__file__).parents[1] / "src/unirae"
GROUPS = "callbacks|data|logger|model|paths|trainer"
FILE = r"\.(safetensors|md|py)\b"
FOREIGN = re.compile(rf"(?<![\w-])--[a-z]|(?<![\w.])({GROUPS})((?!{FILE})\.[a-z_]|(/[a-z]+)?=)")
"""A flag (``--rae``), a key (``model.clip_grad``) or a choice of a group (``model/perceptual=``)."""
COMMANDS = re.compile(r"`[^`]*`|^python src/.*")
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "app")


def texts(source: str) -> list[str]:
    """Every text of a file but docstrings, pieces that are computed shown as ``{}``."""
    tree = ast.parse(source)
    pieces = {id(p) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for p in node.values}
    standing = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
        elif isinstance(node, ast.Constant) and id(node) not in pieces | standing:
            found += [node.value] if isinstance(node.value, str) else []
    return found


def foreign(source: str) -> list[str]:
    """The texts that name what only ``app`` knows; a whole command line in backticks is for every reader."""
    return [text for text in texts(source) if FOREIGN.search(COMMANDS.sub("", text))]


def test_no_layer_below_app_names_a_flag_or_a_key():
    assert len(FILES) > 150
    found = {str(path.relative_to(SOURCE)): foreign(path.read_text()) for path in FILES}
    assert not {file: said for file, said in found.items() if said}


@pytest.mark.parametrize(
    "said",
    [
        'f"give {x}: --rae PATH"',
        '"set model.clip_grad=1.0"',
        'f"{n} lower model.optimizer.lr"',
        '"model/perceptual=none"',
        '"use data=hf"',
    ],
)
def test_the_search_finds(said):
    assert foreign(f"raise ValueError({said})")


def test_the_search_lets_pass():
    assert not foreign('"""Set model.clip_grad=1.0, or --rae PATH."""')
    assert not foreign(
        'raise ValueError(f"the model. It needs `hf download {x} --local-dir DIR` -- and data")'
    )


def test_an_argument_is_called_as_its_user_calls_it():
    assert (argument("denoiser.num_heads", 5), argument("rae", "PATH")) == ("num_heads=5", "rae=PATH")
    assert argument("source.labels", False) == "labels=False"
    with called(NAMES):
        assert argument("denoiser.num_heads", 5) == "model.dit.num_heads=5"
        assert argument("rae", "PATH") == "--rae PATH"
        assert argument("source.labels", False) == "data.labels=false"
        assert argument("latent_cache", None) == "data.latent_cache=null"
        assert argument("nobodys.num_heads") == "num_heads"
        with called({"source.labels=false": "--flat", "denoiser.": "--"}):
            assert argument("source.labels", False) == "--flat"
            assert argument("source.labels", True) == "data.labels=true"
            assert argument("denoiser.num_heads", 5) == "--num_heads 5"
        assert argument("denoiser.num_heads") == "model.dit.num_heads"
    assert argument("denoiser.num_heads") == "num_heads"


def test_a_command_calls_arguments_by_its_own_names(capsys):
    def fail() -> None:
        raise ConfigError(f"{argument('encoder.weights', 'DIR')}, {argument('rae')}")

    assert cli.run(fail) == 2
    assert cli.run(fail, names={"rae": "--autoencoder"}) == 2
    assert capsys.readouterr().err == (
        "error: model.encoder.weights=DIR, --rae\nerror: weights=DIR, --autoencoder\n"
    )
    assert argument("rae") == "rae"
