"""An encoder that a user brings: one method, a word for its kind, and all that an encoder of ours does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import unirae
from tiny_models import tiny_decoder
from tiny_training import TINY
from unirae.core.errors import ConfigError, InputError, WeightsError
from unirae.core.io import load_tensors
from unirae.models.checkpoints.making import rae_content
from unirae.models.encoders import build
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder, encoder_from_identity, register_encoder
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.encoders.shape import shape_from_architecture, shape_from_files, shape_of
from unirae.models.rae import RAE

ARCHITECTURE = {"width": 16, "patch_size": 8}


class Patches(torch.nn.Module):
    def __init__(self, *, width: int, patch_size: int):
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.embed = torch.nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.norm = torch.nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, pixels):
        return self.norm(self.embed(pixels).flatten(2).transpose(1, 2))


class PatchEncoder(Encoder):
    @classmethod
    def skeleton(cls, architecture):
        return Patches(**architecture)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "KINDS", dict(build.KINDS))
    register_encoder("patches", PatchEncoder)


def random_encoder(seed: int = 0) -> Encoder:
    return build_encoder(kind="patches", name="mine", weights="random", architecture=ARCHITECTURE, seed=seed)


def folder_of(encoder: Encoder, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ARCHITECTURE))
    save_file(encoder.backbone.state_dict(), folder / "model.safetensors")
    return folder


@torch.no_grad()
def test_it_is_an_encoder_like_any_other():
    encoder, images = random_encoder(), torch.rand(2, 3, 16, 24)
    tokens = encoder(images)
    expected = encoder.backbone((images - encoder.mean) / encoder.std)
    assert tokens.shape == (2, 16, 2, 3)
    torch.testing.assert_close(tokens[:, :, 1, 2], expected[:, 5])
    assert encoder.num_prefix_tokens == 0
    assert not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(ConfigError, match="has no class token"):
        encoder.class_and_patch_tokens(images)
    with pytest.raises(ConfigError, match=r"mine \(patches\) does not give its blocks' tokens"):
        encoder.feature_maps(images)


def test_its_seed_and_its_weights_are_its_identity():
    one, same, other = random_encoder(), random_encoder(), random_encoder(seed=1)
    assert one.identity == same.identity != other.identity
    assert one.identity.config == ARCHITECTURE
    assert one.identity.embedded
    identity = EncoderIdentity.from_dict(json.loads(json.dumps(one.identity.to_dict())))
    again = encoder_from_identity(identity, one.state_dict())
    assert again.weights_sha256 == one.weights_sha256
    assert RAE(encoder=one, decoder=tiny_decoder(), encoder_input_size=32).fingerprint


def test_its_weights_come_from_a_folder_and_are_checked(tmp_path: Path):
    given = random_encoder(seed=3)
    folder = folder_of(given, tmp_path / "encoder")
    encoder = build_encoder(kind="patches", name="mine", weights=str(folder), mean=(0.5, 0.5, 0.5))
    assert encoder.weights_sha256 == given.weights_sha256
    assert not encoder.identity.embedded
    assert encoder.identity.pixel_mean == (0.5, 0.5, 0.5)
    assert encoder_from_identity(encoder.identity).weights_sha256 == given.weights_sha256
    save_file(random_encoder(seed=4).backbone.state_dict(), folder / "model.safetensors")
    with pytest.raises(WeightsError, match="not the one that this checkpoint was trained with"):
        encoder_from_identity(encoder.identity)
    save_file({"embed.bias": torch.zeros(16)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"embed\.weight"):
        build_encoder(kind="patches", name="mine", weights=str(folder))


def test_its_numbers_are_known_without_weights(tmp_path: Path):
    loaded = shape_of(random_encoder())
    assert loaded.usual_size == (128, 128)
    assert loaded.latent((32, 32)).tokens == (16, 4, 4)
    folder = folder_of(random_encoder(), tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    found = shape_from_files("patches", str(folder))
    assert (found.patch_size, found.width, found.num_prefix_tokens) == (8, 16, 0)
    assert shape_from_architecture("patches", "mine", ARCHITECTURE) == loaded


def test_a_checkpoint_carries_it_to_whoever_knows_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rae = RAE(encoder=random_encoder(), decoder=tiny_decoder(), encoder_input_size=32).eval()
    path = tmp_path / "rae.ckpt"
    torch.save(rae_content(rae, config={}, origin={"version": "0"}), path)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(unirae.load_rae(path).encode(images), rae.encode(images))
    assert unirae.load_rae(path).fingerprint == rae.fingerprint
    monkeypatch.delitem(build.KINDS, "patches")
    with pytest.raises(ConfigError, match=r"rae\.ckpt: .*register_encoder\('patches', CLASS\)"):
        unirae.load_rae(path)


def test_it_is_trained_on_and_opened_again(tmp_path: Path):
    words = [
        *TINY["stage1"],
        f"paths.output_dir={tmp_path}",
        "trainer.max_steps=1",
        "model.perceptual_weight=0",
    ]
    encoder = random_encoder(seed=5)
    run = unirae.train(words, encoder=encoder)
    rae = unirae.load_rae(run.folder)
    assert isinstance(rae.encoder, PatchEncoder)
    assert rae.encoder.weights_sha256 == encoder.weights_sha256
    assert rae.encode(torch.rand(1, 3, 32, 32)).shape == (1, 16, 4, 4)
    kept = load_tensors(tmp_path / "checkpoints/last.ckpt")["unirae"]["config"]["model"]["encoder"]
    assert (kept["kind"], kept["weights"], kept["architecture"]) == ("patches", "random", ARCHITECTURE)
    with pytest.raises(
        ConfigError, match="does not give its blocks' tokens"
    ):  # which this experiment's loss reads
        unirae.train(
            [*words, "model.perceptual_weight=1", f"paths.output_dir={tmp_path / 'b'}"], encoder=encoder
        )


@pytest.mark.parametrize(
    ("stage", "encoder", "message"),
    [
        (
            "stage2",
            random_encoder,
            "encoder= is for stage1 and linear_probe; experiment=dit_tiny trains stage2",
        ),
        ("stage1", lambda: torch.nn.Identity(), "must be an Encoder"),
    ],
)
def test_an_encoder_that_has_no_place_is_refused(tmp_path: Path, stage, encoder, message):
    with pytest.raises(InputError, match=message):
        unirae.train([*TINY[stage], f"paths.output_dir={tmp_path}"], encoder=encoder())


class Half(Encoder):
    def last_tokens(self, pixels):
        return self.backbone(pixels)


@pytest.mark.parametrize(
    ("kind", "cls", "message"),
    [
        ("mae", PatchEncoder, "one of unirae's encoders"),
        ("half", Half, "Half lacks skeleton"),
        ("module", Patches, "must be a subclass of unirae.models.encoders.base.Encoder"),
        ("object", PatchEncoder.skeleton, "must be a subclass"),
    ],
)
def test_what_is_no_encoder_is_refused(kind, cls, message):
    with pytest.raises(InputError, match=message):
        register_encoder(kind, cls)
    register_encoder("patches", PatchEncoder)  # a notebook's cell that runs again


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": "random"}, ConfigError, "architecture"),
        ({"weights": "random", "architecture": {"width": 16, "pach": 8}}, ConfigError, "PatchEncoder.*pach"),
        ({"weights": "hub"}, WeightsError, r"no mine/config\.json.*PatchEncoder has no hub"),
        ({"weights": "/not/there"}, WeightsError, "no encoder weights at /not/there"),
    ],
)
def test_what_cannot_be_built_says_why(options, error, message):
    with pytest.raises(error, match=message):
        build_encoder(kind="patches", name="mine", **options)


def test_a_backbone_without_sizes_is_told_what_to_say():
    class Nameless(PatchEncoder):
        @classmethod
        def skeleton(cls, architecture):
            return torch.nn.Conv2d(3, 16, 8, stride=8)

    register_encoder("nameless", Nameless)
    with pytest.raises(ConfigError, match=r"Conv2d has no width: set it there, or hand width="):
        build_encoder(kind="nameless", name="mine", weights="random", architecture={"any": 1})
