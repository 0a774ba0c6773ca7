"""The demo's glue: which override goes where, what is reused, what is refused."""

from typing import Any

import pytest
import torch

from tiny_checkpoint import write_checkpoint
from unirae.app.demo.generator import order_round
from unirae.app.demo.parts import ALL_PARTS, PARTS, check_rae_fits, distribute, read_seconds, timed
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import read_json, write_json
from unirae.models.checkpoints.opening import load_rae


def test_an_override_reaches_the_parts_that_have_the_key():
    given = distribute(["trainer.max_steps=3", "model.disc_weight=0", "model.dit.patch_size=1"], PARTS)
    assert given == {
        "encoder": ["trainer.max_steps=3"],
        "rae": ["trainer.max_steps=3", "model.disc_weight=0"],
        "dit": ["trainer.max_steps=3", "model.dit.patch_size=1"],
    }


def test_an_override_may_name_its_part():
    given = distribute(["dit:trainer.max_steps=3", "rae:model.optimizer.lr=1e-4"], PARTS)
    assert given == {
        "encoder": [],
        "rae": ["model.optimizer.lr=1e-4"],
        "dit": ["trainer.max_steps=3"],
    }


ADDED = "+data.train_transform.flip_probability=0"


def test_groups_and_added_keys():
    given = distribute(["model/decoder=vit_base", "data=synthetic", ADDED, f"dit:{ADDED}"], PARTS)
    assert given["rae"] == ["model/decoder=vit_base", "data=synthetic", ADDED]
    assert given["encoder"] == ["data=synthetic", ADDED]
    assert given["dit"] == ["data=synthetic", ADDED, ADDED]


def test_an_added_key_goes_where_its_node_is():
    given = distribute(["+model.discriminator.seed=1"], PARTS)
    assert [part for part in PARTS if given[part]] == ["rae"]


def test_nothing_given_is_nothing_composed():
    assert distribute([], PARTS) == {part: [] for part in PARTS}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+model.dot.seed=1", r"no part of the demo has the key model\.dot\.seed"),
        ("+seeds=1", "no part of the demo has the key seeds"),
        ("model.optimiser.lr=1", r"no part of the demo has the key model\.optimiser\.lr"),
        ("encoder:model.disc_weight=0", r"the part encoder \(mae_tiny\) lacks the key model\.disc_weight"),
        ("trainer.max_steps", "give key=value"),
        ("dot:trainer.max_steps=1", "no part of the demo has the key dot:trainer"),
    ],
)
def test_a_key_that_no_part_has_is_one_line(override, said):
    with pytest.raises(ConfigError, match=said):
        distribute([override], PARTS)


def test_pictures_go_round_the_classes_and_each_comes_once():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    order = order_round(labels)
    assert labels[order].tolist() == [0, 1, 2, 0, 2, 0]
    assert order.tolist() == [0, 3, 4, 1, 5, 2]


def test_the_part_of_words_is_one_only_where_it_is_trained():
    assert distribute(["words:seed=3"], ALL_PARTS)["words"] == ["seed=3"]
    with pytest.raises(ConfigError, match=r"the part words is trained with --words alone"):
        distribute(["words:seed=3"], PARTS)


def test_times_are_kept_and_added(tmp_path):
    write_json(tmp_path / "seconds.json", {"samples": 10.0, "classifier": 5.0})
    with timed(tmp_path, "samples", add=True):
        pass
    with timed(tmp_path, "classifier"):
        pass
    kept = read_json(tmp_path / "seconds.json")
    assert kept["samples"] >= 10
    assert kept["classifier"] < 5
    for part in PARTS:
        write_json(tmp_path / part / "finished.json", {"seconds": 1.5})
    assert read_seconds(tmp_path) == {**dict.fromkeys(PARTS, 1.5), **kept}


def test_an_autoencoder_of_another_encoder_is_not_taken(tmp_path):
    def encoder(seed: int) -> dict[str, Any]:
        return {
            "kind": of.kind,
            "name": of.name,
            "weights": "random",
            "architecture": of.config,
            "seed": seed,
        }

    check_rae_fits(tmp_path, {})  # nothing is trained
    write_checkpoint(tmp_path / "rae")
    of = load_rae(tmp_path / "rae").encoder.identity
    check_rae_fits(tmp_path, encoder(0))
    with pytest.raises(
        WeightsError, match=r"is not the one that the autoencoder in .*rae was trained on; delete .*rae to"
    ):
        check_rae_fits(tmp_path, encoder(1))
