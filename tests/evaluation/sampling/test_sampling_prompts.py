"""Sampling of prompts: image i is a function of (seed, i, its prompt); what a prompt says itself beats the sampler."""

import pytest
import torch

import unirae
from tiny_latents import some_stats, tiny_rae
from tiny_text import text_encoder_folder
from unirae.core.errors import ConfigError, InputError, NonFiniteError, WeightsError
from unirae.core.images import to_uint8
from unirae.evaluation.sampling.image_sampler import ImageSampler
from unirae.evaluation.sampling.requests import PromptRule, filled, prompt_rule
from unirae.evaluation.sampling.sampler import sample, sample_latents
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.solvers import solve
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.text.build import load_text_encoder

PROMPTS = ["a red cat", "", "two dogs on a very long sofa in the sun", "日本 😀", "x"]
LENGTH = 40


@pytest.fixture(scope="module", params=["bert", "qwen3"])
def encoder(request):
    """One with tokens for "", and one without."""
    return load_text_encoder(text_encoder_folder(request.param), max_length=LENGTH)


@pytest.fixture(scope="module")
def rae():
    return tiny_rae()


def text_dit(encoder, seed=0, **options):
    null = encoder.encode([""])
    dit = DiTDH(
        input_size=4, in_channels=16, num_classes=0, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2],
        conditioning="tokens", text_width=32, base_head_depth=1,
        **{"latent_stats": some_stats(), "time_shift": 2.0, "null_text": null,
           "text_identity": encoder.identity.to_dict(), **options},
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for parameter in dit.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return dit.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def dit(encoder):
    return text_dit(encoder)


@pytest.fixture(scope="module")
def pictures(dit, rae, encoder):
    """8-bit pictures of prompts, as commands make them; ``own`` is of the rule."""

    def make(prompts, *, numbers=None, batch_size=3, seed=0, guide=None, own=None, **settings):
        rule = prompt_rule(encoder.encode, prompts, **{"seed": seed, **(own or {})})
        how = SamplerSettings(**{"num_steps": 4, **settings})
        sampler = ImageSampler(
            dit=dit, rae=rae, rule=rule, settings=how, seed=seed, batch_size=batch_size, guide=guide
        )
        count = len(prompts) * rule.images_per_prompt
        return sampler(torch.arange(count) if numbers is None else torch.tensor(numbers))

    return make


def assert_alike(found, wanted):
    """Products of other shapes differ in their last digits, and here and there a pixel by one level."""
    difference = (found.int() - wanted.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


GUIDED = {
    "plain": {},
    "cfg": {"cfg_scale": 2.5},
    "ig": {"ig_scale": 1.7},
    "ig, cfg": {"ig_scale": 1.7, "cfg_scale": 2.5, "ig_unconditional_scale": 1.2},
    "cfg in part": {"cfg_scale": 2.5, "guidance_interval": (0.2, 0.8)},
    "sde": {"solver": "sde", "cfg_scale": 2.0},
}
EACH_GUIDANCE = pytest.mark.parametrize("settings", GUIDED.values(), ids=GUIDED.keys())


@EACH_GUIDANCE
def test_a_picture_depends_on_its_number_and_prompt_alone(pictures, settings):
    wanted = pictures(PROMPTS, **settings)
    assert wanted.float().std() > 5
    for size in (1, 2, 5):
        assert_alike(pictures(PROMPTS, batch_size=size, **settings), wanted)
    others = ["something else", "", PROMPTS[2], "more", "y"]
    found = pictures(others, **settings)
    assert torch.equal(found[[1, 2]], wanted[[1, 2]])
    changed = (found[[0, 3, 4]].int() - wanted[[0, 3, 4]].int()).abs().amax((1, 2, 3))
    assert (changed > 0).all()
    assert_alike(pictures([PROMPTS[0]] * 3, **settings)[:1], wanted[:1])  # filled to another length


def test_the_same_prompt_has_another_picture_at_another_number_and_seed(pictures):
    same = pictures(["a cat"] * 3)
    assert len({picture.numpy().tobytes() for picture in same}) == 3
    assert not torch.equal(pictures(["a cat"] * 3, seed=1), same)


def test_each_prompt_may_have_several_pictures(pictures):
    three = {"images_per_prompt": 3}
    wanted = pictures(PROMPTS, own=three, cfg_scale=2.0)
    assert len(wanted) == 15
    repeated = pictures([prompt for prompt in PROMPTS for _ in range(3)], cfg_scale=2.0)
    assert_alike(wanted, repeated)
    assert_alike(pictures(PROMPTS, own=three, numbers=[4, 5, 6], cfg_scale=2.0), wanted[4:7])


def test_prompts_go_round(pictures):
    found = pictures(["a", "b"], numbers=range(6), own={"images_per_prompt": 2})
    same_prompts = pictures(["a", "a", "b", "b", "a", "a"])
    assert torch.equal(found, same_prompts)


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("ig", [{}, {"ig_scale": 1.7, "ig_unconditional_scale": 1.2}], ids=["cfg", "ig, cfg"])
def test_own_seeds_and_scales_equal_calls_of_their_own(pictures, each, ig):
    seeds, scales = (7, None, 3, 7, None), (3.0, 1.3, None, 1.0, 0.0)
    own = {"seeds": seeds, "cfg_scales": scales, "images_per_prompt": each}
    found = pictures(PROMPTS, own=own, seed=5, cfg_scale=2.0, **ig)
    for k, prompt in enumerate(PROMPTS):
        scale = 2.0 if scales[k] is None else scales[k]
        here = found[k * each : (k + 1) * each]
        if seeds[k] is None:  # by its number in the list
            alone = pictures(PROMPTS, own={"images_per_prompt": each}, seed=5, cfg_scale=scale, **ig)
            alone = alone[k * each : (k + 1) * each]
        else:
            alone = pictures([prompt], own={"images_per_prompt": each}, seed=seeds[k], cfg_scale=scale, **ig)
        assert_alike(here, alone)


def test_own_scales_act_without_a_scale_of_the_sampler(pictures):
    own = {"cfg_scales": (3.0, None, None, None, None)}
    plain, found = pictures(PROMPTS), pictures(PROMPTS, own=own)
    assert torch.equal(found[:1], pictures(PROMPTS, cfg_scale=3.0)[:1])
    assert not torch.equal(found[:1], plain[:1])
    assert (found[1:].int() - plain[1:].int()).abs().max() <= 1  # v_ref + 1·(v − v_ref)
    # those without one follow the sampler's, whatever it is: a sweep changes it
    assert_alike(pictures(PROMPTS, own=own, cfg_scale=2.0)[1:], pictures(PROMPTS, cfg_scale=2.0)[1:])
    inner = {"ig_unconditional_scale": 1.2}
    assert torch.equal(pictures(PROMPTS, own=own, **inner)[:1], pictures(PROMPTS, cfg_scale=3.0, **inner)[:1])


def test_a_prompt_with_a_seed_of_its_own_has_new_pictures_when_prompts_go_round(pictures):
    own = {"seeds": (7, None), "images_per_prompt": 2}
    found = pictures(["a", "b"], numbers=range(8), own=own)
    assert len({picture.numpy().tobytes() for picture in found}) == 8
    of_seven = pictures(["a"], own={"images_per_prompt": 4}, seed=7)
    assert_alike(found[[0, 1, 4, 5]], of_seven)


def test_a_negative_prompt_is_what_guidance_leads_away_from(pictures):
    plain = pictures(PROMPTS, cfg_scale=2.5)
    assert torch.equal(pictures(PROMPTS, cfg_scale=2.5, own={"negatives": [""]}), plain)
    bad = pictures(PROMPTS, cfg_scale=2.5, own={"negatives": ["ugly, blurred"]})
    each = pictures(PROMPTS, cfg_scale=2.5, own={"negatives": ["ugly, blurred", "", "", "ugly, blurred", ""]})
    assert not torch.equal(bad, plain)
    assert torch.equal(
        each, torch.where(torch.tensor([True, False, False, True, False])[:, None, None, None], bad, plain)
    )
    with pytest.raises(
        ConfigError, match=r"negative_prompt acts by classifier-free guidance alone: set cfg_scale"
    ):
        pictures(PROMPTS, own={"negatives": ["ugly, blurred"]})
    # away from the prompt itself nothing is left to lead to
    itself = pictures(PROMPTS, cfg_scale=2.5, own={"negatives": PROMPTS})
    assert (itself.int() - pictures(PROMPTS).int()).abs().max() <= 1


@torch.no_grad()
def test_guidance_is_what_its_formula_says(dit, encoder):
    """With text: v_∅ + w·(v − v_∅), where each branch is base + s·(full − base)."""
    texts = filled(encoder.encode(PROMPTS))
    null = filled(encoder.encode([""])).select(torch.zeros(5, dtype=torch.int64))
    x, t = torch.randn(5, 16, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.6)
    full, base = dit.both_heads(x, t, texts)
    null_full, null_base = dit.both_heads(x, t, null)
    torch.testing.assert_close(
        dit.null_condition(1).resized(16).tokens, null.tokens[:1], rtol=1e-6, atol=1e-6
    )
    for settings, wanted in (
        ({}, full),
        ({"cfg_scale": 2.5}, null_full + 2.5 * (full - null_full)),
        ({"ig_scale": 1.7}, base + 1.7 * (full - base)),
        (
            {"cfg_scale": 2.5, "ig_scale": 1.7, "ig_unconditional_scale": 1.2},
            (neg := null_base + 1.2 * (null_full - null_base)) + 2.5 * (base + 1.7 * (full - base) - neg),
        ),
    ):
        found = guided_velocity(dit, texts, SamplerSettings(**settings), None)(x, torch.tensor(0.6))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_autoguidance_by_another_network_of_texts(dit, encoder, pictures):
    weak = text_dit(encoder, seed=9)
    guided = pictures(PROMPTS, cfg_scale=2.0, guide=weak)
    assert not torch.equal(guided, pictures(PROMPTS, cfg_scale=2.0))
    assert torch.equal(pictures(PROMPTS, guide=weak), pictures(PROMPTS))
    labelled = DiTDH(
        input_size=4, in_channels=16, num_classes=3, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2]
    )
    with pytest.raises(ConfigError, match="cannot guide each other"):
        pictures(PROMPTS, cfg_scale=2.0, guide=labelled)
    other = text_dit(encoder, seed=9)
    other.text_identity = {**encoder.identity.to_dict(), "layer": -3}
    with pytest.raises(
        ConfigError, match=r"the guide reads the tokens of another text encoder than the model \(layer"
    ):
        pictures(PROMPTS, cfg_scale=2.0, guide=other)


# ---------------------------------------------------------------- the library


def test_the_library_makes_the_same_pictures(dit, rae, encoder, pictures):
    seen = []
    found = unirae.sample(
        dit, rae, prompts=PROMPTS, text_encoder=encoder, num_steps=4, cfg_scale=2.5, batch_size=3,
        progress=lambda *done: seen.append(done), negative_prompt="ugly",
    )  # fmt: skip
    assert torch.equal(to_uint8(found), pictures(PROMPTS, cfg_scale=2.5, own={"negatives": ["ugly"]}))
    assert seen == [(3, 5), (5, 5)]
    assert torch.equal(
        sample(dit, rae, prompts=PROMPTS, num_steps=4, cfg_scale=2.5, batch_size=3, negative_prompt="ugly"),
        found,
    )  # which opens the text encoder that the network names


def test_latents_of_noise_that_the_caller_has(dit, encoder):
    noise = torch.randn(5, *dit.latent_shape, generator=torch.Generator().manual_seed(3))
    found = unirae.sample_latents(
        dit, noise=noise, prompts=PROMPTS, text_encoder=encoder, num_steps=4, cfg_scale=2.0
    )
    settings = SamplerSettings(num_steps=4, cfg_scale=2.0)
    with torch.no_grad():
        velocity = guided_velocity(dit, filled(encoder.encode(PROMPTS)), settings, None)
        wanted = solve("euler", velocity, noise, settings.times(dit))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    parts = sample_latents(
        dit, noise=noise, prompts=PROMPTS, text_encoder=encoder, num_steps=4, cfg_scale=2.0, batch_size=2
    )
    torch.testing.assert_close(parts, found, rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match=r"5 prompts and this model need \(5, 16, 4, 4\)"):
        sample_latents(dit, noise=noise[:2], prompts=PROMPTS, text_encoder=encoder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [0], "prompts": ["a"]}, "give labels or prompts, and not both"),
        ({}, "give labels or prompts, and not both"),
        ({"labels": [0, 1]}, "conditioned on text, and has no labels: give prompts"),
        ({"prompts": "a cat"}, "prompts='a cat' must be a list of texts"),
        ({"prompts": ["a", 3]}, r"prompts=\['a', 3\] must be a list of texts"),
        ({"prompts": []}, "no prompts; give at least one"),
        ({"labels": [0], "negative_prompt": "x"}, "negative_prompt and text_encoder go with prompts"),
        ({"prompts": ["a"], "batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be(dit, rae, encoder, given, message):
    with pytest.raises(ConfigError, match=message) as found:
        sample(dit, rae, num_steps=2, **given)
    assert "\n" not in str(found.value)


def test_prompts_for_a_network_of_labels(rae):
    dit = DiTDH(
        input_size=4, in_channels=16, num_classes=3, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2],
        latent_stats=some_stats(),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="conditioned on labels, not on text: give labels"):
        sample(dit, rae, prompts=["a"])


def test_another_text_encoder_is_refused(dit, rae, encoder, tmp_path):
    other = load_text_encoder(encoder.identity.source, max_length=LENGTH - 1)
    with pytest.raises(
        WeightsError, match=r"is not the one that the network was trained with .*max_length 40"
    ):
        sample(dit, rae, prompts=["a"], text_encoder=other)
    moved = {**encoder.identity.to_dict(), "source": str(tmp_path / "gone")}
    with pytest.raises(WeightsError, match="gone does not exist") as found:
        sample(text_dit(encoder, text_identity=moved), rae, prompts=["a"])
    assert "\n" not in str(found.value)
    nobody = text_dit(encoder, text_identity=None)
    with pytest.raises(WeightsError, match="does not say which text encoder it was trained with"):
        sample(nobody, rae, prompts=["a"])
    assert sample(nobody, rae, prompts=["a"], text_encoder=encoder, num_steps=2).shape == (1, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"is a MaeEncoder: give what unirae\.load_text_encoder"):
        sample(dit, rae, prompts=["a"], text_encoder=rae.encoder)


def test_tokens_of_another_width_are_refused(dit, rae):
    wrong = Condition(tokens=torch.zeros(1, 3, 8), mask=torch.ones(1, 3, dtype=torch.bool))
    rule = PromptRule(prompts=("a",), tokens=wrong)
    sampler = ImageSampler(dit=dit, rae=rae, rule=rule, settings=SamplerSettings(num_steps=2), batch_size=1)
    with pytest.raises(InputError, match="hidden states of width 32, and was given ones of 8"):
        sampler(torch.arange(1))


def test_a_broken_text_encoder_shows(dit, rae, encoder, monkeypatch):
    nan = Condition(tokens=torch.full((1, 2, 32), torch.nan), mask=torch.ones(1, 2, dtype=torch.bool))
    monkeypatch.setattr(encoder, "encode", lambda texts: nan)
    with pytest.raises(NonFiniteError, match="NaN or inf"):
        sample(dit, rae, prompts=["a"], text_encoder=encoder, num_steps=2)


def test_prompts_are_encoded_when_they_are_asked_for(dit, rae, encoder, pictures):
    """The tokens of 50,000 captions, all filled up, would take tens of gigabytes."""
    batches = []

    def encode(texts):
        batches.append(list(texts))
        return encoder.encode(texts)

    rule = prompt_rule(encode, PROMPTS, images_per_prompt=2, negatives=["ugly"])
    assert batches == []
    settings = SamplerSettings(num_steps=4, cfg_scale=2.0)
    sampler = ImageSampler(dit=dit, rae=rae, rule=rule, settings=settings, batch_size=5)
    found = sampler(torch.arange(10))
    assert [batch for batch in batches if batch not in ([], ["ugly"])] == [PROMPTS[:3], PROMPTS[2:]]
    wanted = pictures(
        PROMPTS, own={"images_per_prompt": 2, "negatives": ["ugly"]}, batch_size=5, cfg_scale=2.0
    )
    assert torch.equal(found, wanted)
