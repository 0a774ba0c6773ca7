"""The table of an encoder's shapes, from a file of configs/, a folder, or timm's own list."""

import json

import pytest

from unirae.app.config.overrides import choices
from unirae.app.describe_encoder import Options, run
from unirae.app.shell import cli
from unirae.core.errors import ConfigError, WeightsError

CHOICES = choices("model/encoder")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(cli, "configure_logging", lambda: None)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_the_configuration_is_described_without_a_network(
    choice, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where no demo has been run
    shape = run(Options(encoder=choice))
    others = {"dinov2_registers": 5, "siglip2": 0, "ijepa_h": 0, "tipsv2_b": 2}
    prefix = 5 if choice.startswith(("dinov3", "eupe")) else others.get(choice, 1)
    patch = 14 if choice.startswith(("dinov2", "clip", "ijepa", "tips")) else 16
    assert (shape.patch_size, shape.num_prefix_tokens) == (patch, prefix)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "time shift" in out


def test_pixels_are_those_that_the_file_states(capsys):
    assert run(Options(encoder="tipsv2_b")).std == (1.0, 1.0, 1.0)
    assert run(Options(encoder="mocov3_b")).mean == (0.485, 0.456, 0.406)
    assert "usual ones" not in capsys.readouterr().out


def test_the_table_of_the_papers_encoder(capsys):
    run(Options(encoder="dinov2_registers", image_size=(224, 448)))
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    for row in (
        "│ input, px │ 224×224 │ 224×448 │",
        "│ tokens │ 768×16×16 │ 768×16×32 │",
        "│ output at decoder patch 14, px │ 224×224 │ 224×448 │",
        "│ output at decoder patch 16, px │ 256×256 │ 256×512 │",
        "│ output at decoder patch 32, px │ 512×512 │ 512×1024 │",
        "│ numbers in a latent │ 196,608 │ 393,216 │",
        "│ time shift │ 6.93 │ 9.80 │",
    ):
        assert row.replace("┃", "│") in {line.replace("┃", "│") for line in lines}


def test_a_model_of_timm_and_a_folder_of_transformers(tmp_path, capsys):
    shape = run(Options(encoder="vit_base_patch14_reg4_dinov2.lvd142m", kind="timm"))
    assert (shape.usual_size, shape.num_prefix_tokens, shape.width) == ((518, 518), 5, 768)
    config = {
        "model_type": "dinov3_vit",
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_register_tokens": 4,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = run(Options(encoder=str(tmp_path)))
    assert (shape.kind, shape.width, shape.num_prefix_tokens) == ("dinov3", 64, 5)


@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [
        ({"encoder": "mae", "kind": "timm"}, ConfigError, r"mae\.yaml states the kind"),
        (
            {"encoder": "mae", "image_size": (225,)},
            ConfigError,
            "image_size=225 must be divisible .*224, 240",
        ),
        ({"encoder": "mae", "image_size": (1, 2, 3)}, ConfigError, "give one number, or two"),
        ({"encoder": "nobody/has-this"}, WeightsError, "no encoder nobody/has-this"),
        ({"encoder": "vit_nothing", "kind": "timm"}, ConfigError, "timm cannot build"),
    ],
)
def test_mistakes_are_explained(options, error, cause):
    with pytest.raises(error, match=cause):
        run(Options(**options))
