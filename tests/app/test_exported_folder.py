"""Exported folders that were changed, cut or mixed up: one line that names the file, never a silent load."""

import json

import pytest
import torch

import unirae
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from unirae.app.export import Options, run
from unirae.core.errors import UserError, WeightsError
from unirae.core.io import load_tensors, save_tensors
from unirae.models.checkpoints.hub import from_hub, push_to_hub
from unirae.models.checkpoints.reading import open_checkpoint


@pytest.fixture
def autoencoder(tmp_path):
    write_checkpoint(tmp_path / "rae")
    return run(Options(checkpoint=tmp_path / "rae", output=tmp_path / "out"))


@pytest.fixture
def generator(tmp_path):
    write_checkpoint(tmp_path / "rae")
    write_stage2_checkpoint(tmp_path / "dit", tmp_path / "rae")
    return run(Options(checkpoint=tmp_path / "dit", output=tmp_path / "out"))


def change(folder, path, value=...):
    """Set the value at a dotted path of config.json, or remove it."""
    about = json.loads((folder / "config.json").read_text())
    *above, name = path.split(".")
    place = about
    for step in above:
        place = place[step]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    (folder / "config.json").write_text(json.dumps(about))


def test_one_flipped_bit_is_noticed(autoencoder):
    weights = autoencoder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[8 + int.from_bytes(content[:8], "little") + 400] ^= (
        1  # of the decoder: the encoder has a hash of its own
    )
    weights.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"model\.safetensors is damaged, or not the file .* remove weights_sha256"
    ):
        unirae.load_rae(autoencoder)
    change(autoencoder, "weights_sha256")  # as folders were written before
    unirae.load_rae(autoencoder)


def test_the_hash_is_not_carried_from_one_folder_to_another(autoencoder, tmp_path):
    assert "weights_sha256" not in open_checkpoint(autoencoder, kind="stage1").about
    again = run(Options(checkpoint=autoencoder, output=tmp_path / "again", embed_encoder=True))
    unirae.load_rae(again)


@pytest.mark.parametrize(
    "key", ["version", "step", "config", "rae", "rae.encoder", "rae.decoder", "rae.rae", "latent_stats_info"]
)
def test_a_missing_key_of_an_autoencoder_is_named(autoencoder, key):
    change(autoencoder, key)
    with pytest.raises(WeightsError, match=rf"config\.json lacks {key}, which a stage1 model has"):
        unirae.load_rae(autoencoder)


@pytest.mark.parametrize(
    "key",
    ["dit", "dit.kind", "dit.time_shift", "rae.path", "rae.fingerprint", "class_names", "ema", "ema.ema"],
)
def test_a_missing_key_of_a_generator_is_named(generator, key):
    change(generator, key)
    with pytest.raises(WeightsError, match=rf"config\.json lacks {key}, which a stage2 model has"):
        unirae.load_dit(generator)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("dit", [], "an object"),
        ("dit.time_shift", "4", "a whole number or a number"),
        ("ema", None, "an object"),
        ("ema.ema", True, "a whole number or a number or null"),
        ("rae.path", 3, "a text or null"),
        ("class_names", {}, "a list"),
        ("weights_sha256", 1, "a text"),
        ("sampling", "euler", "an object or null"),
    ],
)
def test_a_key_of_a_wrong_type_is_named(generator, key, value, wanted):
    change(generator, key, value)
    with pytest.raises(WeightsError, match=rf"config\.json: {key}=.* must be {wanted}$"):
        unirae.load_dit(generator)


def test_an_unknown_key_is_refused_with_what_is_known(autoencoder):
    change(autoencoder, "smapling", {})
    with pytest.raises(
        WeightsError, match=r"config\.json has an unknown smapling; .*latent_stats_info, origin, rae"
    ):
        unirae.load_rae(autoencoder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dit.architecture.depth", "x"),
        ("dit.architecture.num_heads", [0, 2]),
        ("dit.architecture", {"depth": 1}),
    ],
)
def test_a_description_that_cannot_be_built_is_one_line_with_its_file(generator, key, value):
    change(generator, key, value)
    with pytest.raises(UserError, match=r"out/model\.safetensors: "):
        unirae.load_dit(generator)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rae.decoder.width", "x"),
        ("rae.decoder.extra", 1),
        ("rae.decoder.width", -8),
        ("rae.rae", {}),
        ("rae.encoder", {}),
    ],
)
def test_so_is_an_autoencoder_that_cannot_be_built(autoencoder, key, value):
    change(autoencoder, key, value)
    with pytest.raises(UserError, match=r"out/model\.safetensors: "):
        unirae.load_rae(autoencoder)


def test_weights_that_do_not_fit_name_their_file(generator):
    change(generator, "dit.architecture.depth", [2, 1])
    with pytest.raises(
        WeightsError, match=r"out/model\.safetensors: the weights do not fit the DiT: \d+ missing"
    ):
        unirae.load_dit(generator)
    change(generator / "rae", "rae.decoder.depth", 2)
    with pytest.raises(WeightsError, match=r"out/rae/model\.safetensors: the weights do not fit the decoder"):
        unirae.load_rae(generator)


def test_a_checkpoint_that_does_not_fit_names_its_file(tmp_path):
    path = write_checkpoint(tmp_path / "rae")
    content = load_tensors(path)
    del content["state_dict"][next(key for key in content["state_dict"] if key.startswith("ema."))]
    save_tensors(path, content)
    with pytest.raises(WeightsError, match=r"last\.ckpt: the weights do not fit the decoder: 1 missing"):
        unirae.load_rae(tmp_path / "rae")


def test_what_was_read_can_be_saved_again(tmp_path):
    """As compute_stats does: the dictionary that knows its file is written as a plain one."""
    path = write_checkpoint(tmp_path / "rae")
    save_tensors(tmp_path / "again.ckpt", open_checkpoint(path, kind="stage1").content)
    loaded, original = load_tensors(tmp_path / "again.ckpt"), load_tensors(path)
    assert loaded.keys() == original.keys()
    assert all(torch.equal(t, loaded["state_dict"][k]) for k, t in original["state_dict"].items())


@pytest.mark.parametrize("damage", [b'{"format": "unirae",', b"\xff\xfe\x00"])
def test_a_config_that_is_not_json_is_said_to_be_that(autoencoder, damage, monkeypatch):
    import huggingface_hub

    (autoencoder / "config.json").write_bytes(damage)
    for given in (autoencoder, autoencoder / "model.safetensors"):
        with pytest.raises(WeightsError, match=r"out/config\.json is not valid JSON"):
            unirae.load_rae(given)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(autoencoder))
    with pytest.raises(WeightsError, match=r"out/config\.json is not valid JSON"):
        from_hub("me/rae")


def refusing(kind, status):
    """A call that the hub refuses, with an exception as its client raises it."""
    import huggingface_hub.errors
    from huggingface_hub.utils import httpx

    def refuse(*_, **__):
        request = httpx.Request("GET", "https://huggingface.co/me/rae")
        response = httpx.Response(status, request=request)
        raise getattr(huggingface_hub.errors, kind)(
            f"{status} Forbidden: no right to write.\n\nMore", response=response
        )

    return refuse


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("GatedRepoError", "me/rae is gated: its publisher wants its licence accepted"),
        ("RepositoryNotFoundError", "the hub shows no me/rae: check the name; if it is private, log in"),
    ],
)
def test_a_gated_or_private_model_on_the_hub_is_explained(kind, cause, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", refusing(kind, 401))
    with pytest.raises(WeightsError, match=f"cannot fetch me/rae from the hub: {cause}"):
        from_hub("me/rae")


def test_an_upload_that_is_forbidden_is_not_called_gated(autoencoder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refusing("HfHubHTTPError", 403))
    with pytest.raises(WeightsError, match=r"to me/rae: 403 Forbidden: no right to write\. Log in with"):
        push_to_hub(autoencoder, "me/rae")
