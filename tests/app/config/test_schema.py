"""The table of keys: as the YAML files have them, and what it makes of values."""

import inspect
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args

import pytest

from unirae.app.config.composition import compose
from unirae.app.config.overrides import as_hydra_reads, choices, groups
from unirae.app.config.schema import table
from unirae.app.config.schema.check import _class_of, _classes, _hints, _item_class, kinds_of, takes_text
from unirae.app.config.schema.kinds import Keys, Mismatch, PathText, Range, Weighted, describe, read
from unirae.app.config.schema.models import Encoder, MuonOptimizer, Optimizer
from unirae.app.config.targets import config_dir, experiments, locate
from unirae.core.errors import ConfigError
from unirae.evaluation.scores.metric_set import RECONSTRUCTION_METRICS, SET_METRICS
from unirae.models.encoders.build import KINDS
from unirae.training.optimizers import OPTIMIZERS

NO_KEYS = ("hydra", "experiment", "debug", "hparams_search")
"""Groups that hold values of other groups' keys."""


@cache
def configurations() -> list[dict[str, Any]]:
    """Configurations in which every choice of every group occurs."""
    found = [compose([f"experiment={name}"]) for name in experiments()]
    for group in groups():
        if group.split("/")[0] in NO_KEYS or group == "model" or len(choices(group)) == 1:
            continue
        name = "dit_base" if group in ("model/dit", "flow") else "rae_dino"
        found += [compose([f"experiment={name}", f"{group}={choice}"]) for choice in choices(group)]
    every = ", ".join(
        f"{{data: {choice}}}" for choice in choices("data") if choice not in ("mix", "imagenet")
    )
    found.append(compose(["experiment=rae_dino", "data=mix", f"data.sources=[{every}]"]))
    return found


def keys(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return set()
    return {f"{prefix}{key}" for key in node} | {
        k for key in node for k in keys(node[key], f"{prefix}{key}.")
    }


def table_classes() -> list[type]:
    """Every class of the table."""
    found: list[type] = list(table.ROOTS)
    for cls in found:  # which grows
        for hint in _hints(cls).values():
            classes = (*_classes(hint), *filter(None, [_item_class(hint)]))
            found += [one for one in classes if one not in found]
    return found


def test_every_key_of_every_group_is_in_the_table():
    used = set().union(*(keys(config) for config in configurations())) - {"changed_keys"}
    assert len(used) > 150
    assert [key for key in sorted(used) if not kinds_of(key) and ".architecture." not in key] == []


@pytest.mark.parametrize("cls", table_classes(), ids=lambda cls: cls.__name__)
def test_every_key_of_the_table_occurs_in_a_group(cls):
    """With the classes of a node told apart: each of them is some file's, and has no key that the file lacks."""
    nodes = [node for config in configurations() for node in nodes_of(config, cls)]
    assert nodes, "no file of configs/ has this node"
    required = {field.name for field in fields(cls) if field.default is MISSING}
    for node in nodes:
        assert required <= set(node)


def nodes_of(config: dict[str, Any], cls: type) -> list[Any]:
    """The nodes of a configuration that are of this class."""

    def below(node: Any, hint: Any) -> list[Any]:
        if item := _item_class(hint):
            return [found for one in node for found in below(one, item)]
        one = _class_of(node, _classes(hint), "", []) if _classes(hint) else None
        if one is None:
            return []
        found = [node] if one is cls else []
        return found + [
            n for name, inner in _hints(one).items() if name in node for n in below(node[name], inner)
        ]

    return below(config, table.Config | table.Stage2Config)


@pytest.mark.parametrize("cls", [cls for cls in table_classes() if "_target_" in _hints(cls)])
def test_what_a_yaml_leaves_out_is_an_argument_of_the_target(cls):
    (target,) = get_args(_hints(cls)["_target_"])
    arguments = set(inspect.signature(locate(target)).parameters)
    assert set(_hints(cls)) - {"_target_"} <= arguments


def test_names_of_the_table_are_those_of_the_code():
    assert set(get_args(_hints(Encoder)["kind"])) == set(KINDS)
    kinds = [get_args(_hints(cls)["kind"]) for cls in (Optimizer, MuonOptimizer)]
    assert {kind for names in kinds for kind in names} == set(OPTIMIZERS)
    scores = _hints(table.ReconstructionMetrics)["metrics"]
    names = {name for part in get_args(get_args(get_args(scores)[0])[0]) for name in get_args(part)}
    assert names == set(RECONSTRUCTION_METRICS)
    assert set(get_args(get_args(get_args(_hints(table.GenerationMetrics)["metrics"])[0])[0])) == set(
        SET_METRICS
    )


COUNT = Annotated[int, Range(1, 100)]


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        *[(word, bool, True) for word in (True, "yes", "On", "TRUE", 1, "1")],
        *[(word, bool, False) for word in (False, "no", "Off", "false", "OFF", 0)],
        ("off", Literal["auto"] | bool, False),
        ("auto", Literal["auto"] | bool, "auto"),
        (10.0, COUNT, 10),
        ("1e1", COUNT, 10),
        ("2.0e-4", float, 2e-4),
        (3, float, 3),
        (None, COUNT | None, None),
        ([0.9, "0.95"], tuple[float, float], [0.9, 0.95]),
        ("2024_01", PathText, "2024_01"),
        ({"a": 1, "b": "0.5"}, Weighted, {"a": 1, "b": 0.5}),
    ],
)
def test_values_are_read_as_their_kind(value, kind, wanted):
    found = read(value, kind)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2, bool),
        ("maybe", bool),
        (None, bool),
        (0, COUNT),
        (101, COUNT),
        (1.5, COUNT),
        (True, COUNT),
        ("x", COUNT),
        (None, COUNT),
        (True, float),
        (float("nan"), float),
        ("inf", float),
        (float("inf"), Annotated[float, Range(0)]),
        (1.0, Annotated[float, Range(0, 1, open_high=True)]),
        (0, Annotated[float, Range(0, open_low=True)]),
        ([0.9], tuple[float, float]),
        (0.9, tuple[float, float]),
        (1234, PathText),
        ("", PathText),
        (True, PathText),
        ("no", Literal["yes"]),
        ({}, Weighted),
        ({"a": 0}, Weighted),
        ({"a": None}, Weighted),
        ({1: 1}, Weighted),
        (["a"], Weighted),
    ],
)
def test_what_is_none_of_its_kind_is_refused(value, kind):
    with pytest.raises(Mismatch):
        read(value, kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (COUNT | None, "a whole number from 1 to 100 or null"),
        (Annotated[float, Range(0, 1, open_high=True)], "a number from 0 to below 1"),
        (Annotated[float, Range(0, open_low=True)], "a number above 0"),
        (Annotated[int, Range(2)], "a whole number from 2 up"),
        (Literal["auto"] | bool, "auto or true or false"),
        (PathText | None, "a path or null"),
        (tuple[float, float], "a list [a, b], each a number"),
        (Weighted | None, "text, several as {NAME: a number above 0, …} or null"),
    ],
)
def test_kinds_are_described_in_words(kind, words):
    assert describe(kind) == words


@pytest.mark.parametrize(
    "name",
    [
        "/x/epoch=0-step=10.ckpt",
        "/x/a (1)",
        "/x/#1",
        "~me/x",
        "2024_01",
        "1e5",
        "0x10",
        "on",
        "x y,z",
        "it's",
        'a"b',
        "a:b",
        "c:\\d\\",
        "\\'",
        "[1]",
        "{a}",
        "-",
        "%20",
        "caf\u00e9",
        "a\\\\'b",
        "null1",
        "1:30",
    ],
)
def test_paths_are_taken_as_they_stand(name):
    words = [
        "experiment=rae_dino",
        f"ckpt_path={name}",
        f"model.encoder.weights={name}",
        f"data.data_dir={name}",
    ]
    assert as_hydra_reads(as_hydra_reads(words)) == as_hydra_reads(words)
    config = compose(words)
    found = (config["ckpt_path"], config["model"]["encoder"]["weights"], config["data"]["source"]["data_dir"])
    assert found == (name, name, name)


def test_home_interpolations_quotes_and_null_mean_what_they_did(monkeypatch):
    monkeypatch.setenv("HOME", "/me")
    monkeypatch.setenv("HERE", "/he re")
    assert compose(["experiment=rae_tiny", "ckpt_path=~/x"])["ckpt_path"] == "/me/x"
    assert compose(["experiment=rae_tiny", "ckpt_path=${oc.env:HERE}/x (1)"])["ckpt_path"] == "/he re/x (1)"
    assert compose(["experiment=rae_tiny", "ckpt_path='a=b'"])["ckpt_path"] == "a=b"
    assert compose(["experiment=rae_tiny", "ckpt_path=null"])["ckpt_path"] is None
    assert compose(["experiment=rae_tiny", "model.perceptual.layers=[1,2]"])["model"]["perceptual"][
        "layers"
    ] == [1, 2]


def test_in_a_sweep_commas_part_values_and_each_is_quoted():
    (found,) = as_hydra_reads(["model.encoder.weights=a=1,b (2)"], multirun=True)
    assert found == "++model.encoder.weights='a=1','b (2)'"
    for kept in ("model.encoder.weights=choice(a,b)", "model.encoder.weights='a','b'", "seed=1,2"):
        assert as_hydra_reads([kept], multirun=True) == [f"++{kept}"]


def test_text_that_yaml_reads_as_a_number_is_refused_in_a_file(tmp_path, monkeypatch):
    import shutil

    copy = tmp_path / "configs"
    shutil.copytree(config_dir(), copy)
    monkeypatch.setattr("unirae.app.config.composition.config_dir", lambda: copy)
    experiment = copy / "experiment" / "rae_tiny.yaml"
    experiment.write_text(experiment.read_text() + "\nckpt_path: 2024_01\n")
    with pytest.raises(ConfigError, match=r"^ckpt_path=202401: give a path or null$"):
        compose(["experiment=rae_tiny"])


def test_which_keys_take_text():
    assert all(
        map(takes_text, ("ckpt_path", "data.source.data_dir", "model.encoder.weights", "model.noise_kind"))
    )
    assert not any(
        map(takes_text, ("seed", "trainer.devices", "model.encoder", "model.nothing", "trainer.compile"))
    )


def test_the_table_says_how_to_add_a_key():
    assert is_dataclass(table.Config)
    assert "To add a key" in (inspect.getdoc(__import__("unirae.app.config.schema", fromlist=["x"])) or "")


class _Lion(Keys):
    """Another optimizer, as docs/extending.md tells it."""

    lr: float
    kind: Literal["lion"]


def test_a_class_whose_mark_has_a_default_may_be_left_unnamed():
    classes = (Optimizer, _Lion)
    problems: list[Any] = []
    assert _class_of({"lr": 1.0}, classes, "optimizer", problems) is Optimizer
    assert _class_of({"lr": 1.0, "kind": "lion"}, classes, "optimizer", problems) is _Lion
    assert problems == []
    assert _class_of({"lr": 1.0, "kind": "sgd"}, classes, "optimizer", problems) is None
    assert problems[0][2] == "optimizer.kind=sgd: give adamw, lion"
