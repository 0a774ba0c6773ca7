"""What README, CONTRIBUTING and docs/ cite exists: paths, links, commands, options, keys; and snippets run.

Code spans and the lines of bash blocks are read word by word; words with a placeholder (DIR, NAME, …) are
left out. Hydra composes every training command as it is written.
"""

import dataclasses
import importlib
import importlib.util
import re
import runpy
import shlex
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from unirae.app.main import COMMANDS
from unirae.models.encoders import build

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PLACEHOLDER = re.compile(r"\b(C|DIR|FILE|N+|NAME|PATH|CLASS|COMMAND|OUTPUT\w*)\b|/path/to|[<>*…]|step-NN")
FENCE = re.compile(r"^ *```(?P<info>[^\n]*)\n(?P<body>.*?)^ *```", re.DOTALL | re.MULTILINE)
OURS = ("src/", "configs/", "docs/", "tests/", "tools/", "benchmarks/")
SHORT_PATH = re.compile(
    r"(?!outputs/|logs/)[\w./-]+/[\w.-]+\.(py|yaml|md|html)"
)  # those two are made by runs
STARTS = ("", "src/unirae/", "docs/", "tests/")  # where a short path such as core/io.py may start
GROUPS = {str(d.relative_to(CONFIGS)) for d in CONFIGS.rglob("*") if d.is_dir()}
KEY = re.compile(r"(model|flow|data|trainer|callbacks|logger|paths)(\.[a-z_0-9]+)+(?<!\.safetensors)")

by_document = pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))


def fenced(text: str, language: str) -> list[str]:
    return [m["body"] for m in FENCE.finditer(text) if m["info"].strip() == language]


def cited(text: str) -> Iterator[list[str]]:
    """Shell lines and code spans as words, comments left out."""
    shell = "\n".join(fenced(text, "bash")).replace("\\\n", " ").splitlines()
    for piece in [*shell, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]:
        try:
            words = shlex.split(piece, comments=True)
        except ValueError:  # an apostrophe in a span
            words = piece.split()
        yield [word.rstrip(",;:") for word in words]


def exact(words: list[str]) -> list[str]:
    return [word for word in words if not PLACEHOLDER.search(word)]


def missing_paths(words: list[str]) -> list[str]:
    ours = [w for w in exact(words) if w.startswith(OURS) and "=" not in w and not (ROOT / w).exists()]
    short = [w for w in exact(words) if SHORT_PATH.fullmatch(w)]
    return ours + [w for w in short if not any((ROOT / start / w).exists() for start in STARTS)]


def missing_commands(words: list[str]) -> list[str]:
    match exact(words):
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text()
            variables = {t for t in targets if "=" in t}
            unknown = [t for t in variables if f"$({t.partition('=')[0]})" not in makefile]
            goals = [t for t in targets if t not in variables]
            return [
                *unknown,
                *(t for t in goals if not re.search(rf"^{re.escape(t)}\s*:", makefile, re.MULTILINE)),
            ]
        case ["unirae", command, *_]:
            module = f"unirae.app.{command.replace('-', '_')}"
            return [] if command in COMMANDS and importlib.util.find_spec(module) else [command]
    return []


def missing_options(words: list[str]) -> list[str]:
    script = next((word for word in words if re.fullmatch(r"src/\w+\.py", word)), None)
    if script in (None, "src/train.py") or not (ROOT / script).exists():
        return []
    options = importlib.import_module(f"unirae.app.{Path(script).stem}").Options
    known = {field.name.rstrip("_") for field in dataclasses.fields(options)}  # from_ is --from
    arguments = words[words.index(script) + 1 :]
    flags = [word.removeprefix("--").partition("=")[0] for word in arguments if word.startswith("--")]
    return [flag for flag in flags if flag not in known | {"help"}]


def missing_settings(words: list[str]) -> list[str]:
    """Choices (``data=emoji``) without a file and keys that no file sets; ``+key`` is for those."""
    missing = []
    for word in words:
        key, _, value = word.partition("=")
        if key in GROUPS and re.fullmatch(r"[a-z_0-9/]+", value):
            missing += [] if (CONFIGS / key / f"{value}.yaml").exists() else [word]
        elif KEY.fullmatch(key) and key not in config_keys():
            missing.append(word)
    return missing


CHECKS: list[Callable[[list[str]], list[str]]] = [
    missing_paths,
    missing_commands,
    missing_options,
    missing_settings,
]


@cache
def config_keys() -> set[str]:
    """Every key that some file of the groups sets, with the group or the package that it is mounted at before it."""
    keys = set()
    for file in CONFIGS.rglob("*.yaml"):
        text, group = file.read_text(), file.parent.relative_to(CONFIGS).parts
        content = yaml.safe_load(text) or {}
        keys |= _flat(content, () if "@package _global_" in text else group)
        for folder, package in _mounted(content.get("defaults", []), group):
            keys |= {
                key
                for choice in folder.glob("*.yaml")
                for key in _flat(yaml.safe_load(choice.read_text()), package)
            }
    return keys


def _mounted(defaults: list[object], group: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """``group@package`` of a defaults list, as the group's folder and the whole package."""
    for entry in defaults:
        name = next(iter(entry)) if isinstance(entry, dict) else ""
        if "@" in name and not name.startswith(("override", "/")):
            of, _, package = name.partition("@")
            yield CONFIGS.joinpath(*group, of), (*group, *package.split("."))


def _flat(node: object, above: tuple[str, ...]) -> set[str]:
    here = {".".join(above)}
    return here.union(*(_flat(v, (*above, k)) for k, v in node.items())) if isinstance(node, dict) else here


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@by_document
def test_what_is_cited_exists(doc: Path, check: Callable[[list[str]], list[str]]):
    assert [problem for words in cited(doc.read_text()) for problem in check(words)] == []


def test_mistakes_are_found():
    page = (
        "Set `model.decoder.patch_sise=8`, then `make tset` and `unirae trian`; see `core/oi.py`.\n\n"
        "```bash\n"
        "python src/train.py \\\n  data=emojis  # not data=emoji\n"
        "python src/eval_rfid.py --chekpoint DIR\n"
        "python src/eval_fad.py --checkpoint DIR\n"
        "```\n"
    )
    found = {problem for words in cited(page) for check in CHECKS for problem in check(words)}
    wrong = {"patch_sise", "tset", "trian", "core/oi.py", "data=emojis", "chekpoint", "src/eval_fad.py"}
    assert {mistake for mistake in wrong if any(mistake in problem for problem in found)} == wrong
    assert len(found) == len(wrong)


@by_document
def test_links_lead_somewhere(doc: Path):
    text = FENCE.sub("", doc.read_text())
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    assert [t for t in targets if "://" not in t and not (doc.parent / t).exists()] == []


def training_commands() -> set[tuple[str, ...]]:
    """Overrides of each cited training command, without those that hold a placeholder other than a path."""
    found = set()
    for words in (words for doc in DOCS for words in cited(doc.read_text())):
        if "src/train.py" in words or words[:2] == ["unirae", "train"]:
            overrides = [w for w in words if "=" in w and exact([w.replace("/path/to", "")])]
            # the sweeper's plug-in is an extra that the tests do not install
            found.add(tuple(w for w in overrides if not w.startswith("hparams_search=")))
    return {overrides for overrides in found if any(w.startswith("experiment=") for w in overrides)}


def test_training_commands_compose():
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser

    everything = training_commands()
    assert len(everything) > 5
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for overrides in everything:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            single = [text for text, o in zip(overrides, parsed, strict=True) if not o.is_sweep_override()]
            assert compose("train", single).model.stage in ("stage1", "stage2", "mae", "linear_probe"), (
                overrides
            )


SNIPPETS = [
    pytest.param(body, id=f"{doc.relative_to(ROOT)} {number}")
    for doc in DOCS
    for number, body in enumerate(fenced(doc.read_text(), "python test"))
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a folder where outputs/demo/rae and outputs/demo/dit are tiny, untrained runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "KINDS", dict(build.KINDS))  # a snippet may register one of its own
    write = runpy.run_path(str(ROOT / "tests/helpers/tiny_checkpoint.py"))
    write["write_checkpoint"](tmp_path / "outputs/demo/rae")
    write["write_stage2_checkpoint"](tmp_path / "outputs/demo/dit", tmp_path / "outputs/demo/rae")
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})


def test_what_is_advised_to_install_is_known():
    """This package is in no index: ``unirae[extra]`` could not be found; packages, or extras of a checkout, can."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    known = {re.split(r"[<>=\[]", one)[0] for one in requirements}
    files = [*DOCS, *CONFIGS.rglob("*.yaml"), *(ROOT / "src").rglob("*.py")]
    advised = [
        m for file in files for m in re.findall(r"pip install ((?:-e )?'?[\w.\[\]{} -]+)", file.read_text())
    ]
    assert len(advised) > 8
    for words in map(str.split, advised):
        if words[0] == "-e":
            assert set(re.findall(r"\w+", " ".join(words[1:]))) <= extras.keys(), words
        else:
            names = [word.strip("\"'.,:") for word in words if "{" not in word]  # what a program fills in
            assert set(names) <= known | {"einops", "regex", "pillow-jxl-plugin"}, words
