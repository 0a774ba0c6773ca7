"""Networks that are conditioned on text; RAEv2's own numbers: test_golden_dit_v2."""

import json
import re

import pytest
import torch

from tiny_dit import CHANNELS, GRID, randomise, tiny_dit
from tiny_dit import inputs as labelled
from unirae.core.errors import ConfigError, InputError, WeightsError
from unirae.models.denoisers.build import denoiser_from_description, describe_denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.trunk_reuse import reusing_trunk

KINDS = pytest.mark.parametrize("kind", ["dit", "dit_dh"])
WIDTH = 10
TEXT = {"conditioning": "tokens", "text_width": WIDTH, "num_classes": 0, "base_head_depth": 1}
IDENTITY = {
    "name": "Some/Encoder", "source": "Some/Encoder", "model_type": "bert", "sha256": "0" * 64,
    "tokenizer_sha256": "1" * 64, "max_length": 12, "layer": None, "width": WIDTH,
}  # fmt: skip


def texts(*lengths, seed=3):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(lengths), max(1, *lengths), WIDTH, generator=generator)
    mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
    return Condition(tokens=torch.where(mask[..., None], tokens, 0.0), mask=mask)


def inputs(*lengths):
    x, t, _ = labelled()
    return x, t, texts(*(lengths or (5, 2, 0)))


def text_dit(kind, **options):
    return randomise(tiny_dit(kind, **TEXT | options))


@KINDS
@torch.no_grad()
def test_what_fills_a_text_up_changes_nothing(kind):
    model = text_dit(kind)
    x, t, y = inputs()
    wanted = model.predict_with_base(x, t, y)
    junk = torch.where(y.mask[..., None], y.tokens, 7.0)
    for same in (y.resized(9), y.resized(40), Condition(tokens=junk, mask=y.mask)):
        for found, there in zip(model.predict_with_base(x, t, same), wanted, strict=True):
            torch.testing.assert_close(found, there, rtol=1e-5, atol=1e-5)
    for number, length in enumerate((5, 2, 0)):  # each alone, at its own length
        own = slice(number, number + 1)
        alone = Condition(tokens=y.tokens[own, : max(1, length)], mask=y.mask[own, : max(1, length)])
        found = model.predict(x[own], t[own], alone)
        torch.testing.assert_close(found, wanted.full[own], rtol=1e-5, atol=1e-5)


@KINDS
@torch.no_grad()
def test_words_and_their_number_reach_the_prediction(kind):
    model = text_dit(kind)
    x, t, y = inputs(5, 5, 5)
    wanted = model.predict(x, t, y)
    fewer = Condition(tokens=y.tokens, mask=y.mask & (torch.arange(5) < 4))
    for other in (Condition(tokens=y.tokens + 1.0, mask=y.mask), fewer, y.select(torch.tensor([1, 2, 0]))):
        assert float((model.predict(x, t, other) - wanted).abs().amax((1, 2, 3)).min()) > 1e-3
    assert not torch.allclose(model.predict(x, t.flip(0), y), wanted, atol=1e-3)


@KINDS
def test_gradients_reach_every_trained_parameter_but_not_through_filling(kind):
    model = text_dit(kind)
    x, t, y = inputs()
    y.tokens.requires_grad_()
    full, base = model.predict_with_base(x, t, y)
    (full.square().mean() + base.square().mean()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    assert torch.equal(y.tokens.grad[~y.mask], torch.zeros_like(y.tokens.grad[~y.mask]))
    assert y.tokens.grad[y.mask].abs().amax(-1).min() > 0


@KINDS
def test_checkpointing_changes_no_gradient(kind):
    results = []
    for checkpointing in (False, True):
        model = text_dit(kind, gradient_checkpointing=checkpointing)
        full, base = model.predict_with_base(*inputs())
        (full.square().mean() + base.square().mean()).backward()
        results.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[1][name]), name


@KINDS
@torch.no_grad()
def test_the_null_condition_is_the_empty_text(kind):
    nothing, something = text_dit(kind), text_dit(kind, null_text=texts(2, seed=8))
    x, t, _ = inputs()
    null = nothing.null_condition(3)
    assert null.tokens.shape == (3, 1, WIDTH)
    assert not null.mask.any()
    wanted = nothing.predict(
        x, t, Condition(tokens=torch.ones(3, 4, WIDTH), mask=torch.zeros(3, 4, dtype=torch.bool))
    )
    torch.testing.assert_close(nothing.predict(x, t, null), wanted, rtol=1e-5, atol=1e-5)
    own = something.null_condition(3)
    assert torch.equal(own.tokens, texts(2, seed=8).tokens.expand(3, 2, WIDTH))
    assert own.mask.all()
    assert not torch.allclose(something.predict(x, t, own), wanted, atol=1e-3)
    assert nothing.has_null_condition
    assert nothing.reads_text


@KINDS
@torch.no_grad()
def test_a_checkpoint_brings_the_null_text_and_the_encoders_identity_back(kind):
    model = text_dit(kind, null_text=texts(2, seed=8), text_identity=IDENTITY, use_qknorm=True)
    description = json.loads(json.dumps(describe_denoiser(model)))
    assert description["text_encoder"] == IDENTITY
    assert description["architecture"]["text_width"] == WIDTH
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert {"null_tokens", "null_mask"} <= state.keys()
    again = denoiser_from_description(description, state)
    assert again.text_identity == IDENTITY
    assert torch.equal(again.null_condition(1).tokens, model.null_condition(1).tokens)
    for found, wanted in zip(
        again.predict_with_base(*inputs()), model.predict_with_base(*inputs()), strict=True
    ):
        assert torch.equal(found, wanted)
    del state["null_mask"]
    with pytest.raises(WeightsError, match="null_mask"):
        denoiser_from_description(description, state)


def test_a_network_of_labels_has_nothing_of_a_text():
    model = tiny_dit("dit_dh", conditioning="tokens")
    assert not [name for name in model.state_dict() if "text" in name or "null" in name]
    assert describe_denoiser(model).keys() == {"kind", "architecture", "time_shift", "prediction"}
    assert not model.reads_text


@KINDS
def test_labels_and_texts_are_not_taken_for_each_other(kind):
    x, t, labels = labelled()
    model = text_dit(kind)
    for wrong in (labels, Condition(labels=labels)):
        for call in (model, model.predict, model.predict_with_base):
            with pytest.raises(InputError, match="conditioned on text, and was given labels"):
                call(x, t, wrong)
    with pytest.raises(InputError, match="conditioned on labels, and was given a text's tokens"):
        tiny_dit(kind)(x, t, texts(3, 2, 1))


@KINDS
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (texts(3, 2), r"tokens of 3 texts, \[3, length, 10\], got \[2, 3, 10\]"),
        (Condition(tokens=torch.zeros(3, 2, 11), mask=torch.ones(3, 2, dtype=torch.bool)), "of width 10, .* of 11"),
        (Condition(tokens=torch.zeros(3, 2, WIDTH), mask=torch.ones(3, 2, dtype=torch.int64)), "mask must be boolean"),
        (Condition(tokens=torch.zeros(3, 2, WIDTH, dtype=torch.int64), mask=torch.ones(3, 2, dtype=torch.bool)),
         "tokens must be floating point"),
    ],
)  # fmt: skip
def test_tokens_that_do_not_fit_are_refused(kind, y, message):
    x, t, _ = labelled()
    with pytest.raises(InputError, match=message):
        text_dit(kind)(x, t, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditioning": "adaln"}, "conditioning=adaln modulates by one vector, .*conditioning=tokens"),
        ({"num_classes": 5}, "num_classes=5: a network is conditioned on labels or on text, and this one on text"),
        ({"text_width": 0}, "text_width=0 must be at least 1"),
        ({"num_time_tokens": 0}, "num_time_tokens=0 must be at least 1"),
    ],
)  # fmt: skip
@KINDS
def test_a_mistake_is_named(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_dit(kind, **TEXT | options)
    with pytest.raises(ConfigError, match=re.escape("null_text has tokens of width 4, and text_width is 10")):
        tiny_dit(
            kind,
            **TEXT,
            null_text=Condition(tokens=torch.zeros(1, 1, 4), mask=torch.ones(1, 1, dtype=torch.bool)),
        )


@KINDS
def test_every_trained_parameter_has_an_optimizer_and_learns(kind):
    model = text_dit(kind)
    groups = model.parameter_groups()
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in (*groups.matrices, *groups.others)} == trained
    assert len(groups.matrices) + len(groups.others) == len(trained)
    assert any(p is model.text_embed.linear.weight for p in groups.matrices)
    assert any(p is model.condition_tokens.time for p in groups.matrices)
    assert any(p is model.text_embed.norm.weight for p in groups.others)
    assert model.condition_tokens.condition is None


@torch.no_grad()
def test_a_trunk_with_a_text_can_be_kept():
    model = text_dit("dit_dh")
    x, t, y = inputs()
    torch.testing.assert_close(reusing_trunk(model, 2)(x, t, y), model(x, t, y))
    assert model.run_trunk(x, model.time_embed(t), y).shape[1] == GRID[0] * GRID[1]


@KINDS
@torch.no_grad()
def test_bf16_stays_near(kind):
    model = text_dit(kind)
    wanted = model.predict(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.predict(*inputs())
    assert found.dtype == torch.float32
    assert 0 < float((found - wanted).norm() / wanted.norm()) < 0.03
    x, t, y = inputs()
    near = model.predict(x, t, y.to(dtype=torch.float16))  # as a cache has them
    torch.testing.assert_close(near, wanted, rtol=0.02, atol=0.02)


@KINDS
@torch.no_grad()
def test_a_new_network_predicts_zero(kind):
    for output in tiny_dit(kind, **TEXT).predict_with_base(*inputs()):
        assert torch.equal(output, torch.zeros(3, CHANNELS, *GRID))
