"""RAEv2's networks against its code: outputs of both heads, loss and gradients; names there and back."""

import pytest
import torch

from golden_dit import golden_model_v2, read
from tiny_models import relative_l2
from unirae.core.errors import WeightsError
from unirae.models.denoisers.condition import Condition
from unirae.models.interop.official.dit_v2 import dit_v2_from_official, dit_v2_to_official

FILES = ("raev2_ddt", "raev2_ddt_ig", "raev2_lightning_dit_ig", "raev2_ddt_ig_text")
TRAINED = {
    "t_embedder.W": "time_embed.frequencies",
    "t_embedder.learnable_tokens": "condition_tokens.time",
}


def condition_of(golden):
    """Labels, or a text, of which one sample has no token."""
    if "y" in golden:
        return golden["y"]
    assert (golden["attn_mask"].sum(1) == 0).any()
    return Condition(tokens=golden["context"], mask=golden["attn_mask"].bool())


def outputs(model, golden):
    """Those of the golden file by their names."""
    inputs = golden["x"], golden["t"], condition_of(golden)
    if "output" in golden:
        return {"output": model.predict(*inputs)}
    return {f"output_{name}": output for name, output in model.predict_with_base(*inputs)._asdict().items()}


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_outputs_of_both_heads_are_raev2s(name):
    golden, state, config = read(f"{name}.safetensors")
    model = golden_model_v2(state, config)
    found = outputs(model, golden)
    for key, output in found.items():
        assert relative_l2(output, golden[key]) < 1e-5, key
    if "output_full" in found:
        alone = model.predict(golden["x"], golden["t"], condition_of(golden))
        assert torch.equal(alone, found["output_full"])


@pytest.mark.parametrize("name", FILES)
def test_loss_and_gradients_are_raev2s(name):
    golden, state, config = read(f"{name}.safetensors")
    model = golden_model_v2(state, config, train_time_frequencies=True)
    loss = sum(output.square().mean() for output in outputs(model, golden).values())
    torch.testing.assert_close(loss, golden["loss"], rtol=1e-5, atol=0.0)
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    for theirs, ours in TRAINED.items():
        assert relative_l2(gradients[ours], golden[f"grad.{theirs}"]) < 1e-4, ours
    first = next(key for key in gradients if key.endswith("0.attention.query_norm.weight"))
    assert relative_l2(gradients[first], golden["grad.blocks.0.attn.q_norm.weight"]) < 1e-4
    for key, kept in (
        ("grad_norm_with_W", gradients),
        ("grad_norm", gradients.keys() - {TRAINED["t_embedder.W"]}),
    ):
        norm = torch.nn.utils.get_total_norm([gradients[name] for name in kept])
        assert float(norm) == pytest.approx(float(golden[key]), rel=1e-4), key


@pytest.mark.parametrize("name", FILES)
def test_raev2s_names_and_tables_there_and_back_change_no_bit(name):
    _, state, config = read(f"{name}.safetensors")
    length = config["params"]["cond_arch"]["num_c_tokens"] if "text" in name else 0
    back = dit_v2_to_official(golden_model_v2(state, config), text_length=length)
    kept = {key for key in state if not key.startswith("repa_projector.")}
    assert back.keys() == kept
    assert all(torch.equal(back[key], state[key]) for key in back)


@pytest.mark.parametrize(
    ("key", "row"), [("enc_rope.freqs_cos", 1), ("enc_rope.freqs_sin", -1), ("dec_rope.freqs_sin", 1)]
)
def test_rotary_tables_of_other_positions_are_refused(key, row):
    _, state, config = read("raev2_ddt.safetensors")
    model = golden_model_v2(state, config)
    state[key][row] += 0.1
    with pytest.raises(WeightsError, match=f"{key} is not the table of rotary positions"):
        dit_v2_from_official(state, model)


@torch.no_grad()
def test_filling_that_is_cut_off_changes_nothing():
    """RAEv2 fills every text up to one length; here a batch has the length of its longest."""
    golden, state, config = read("raev2_ddt_ig_text.safetensors")
    model = golden_model_v2(state, config)
    mask = golden["attn_mask"].bool()
    for sample, count in enumerate(mask.sum(1).tolist()):
        kept = max(1, count)
        short = Condition(
            tokens=golden["context"][sample : sample + 1, :kept], mask=mask[sample : sample + 1, :kept]
        )
        found = model.predict(golden["x"][sample : sample + 1], golden["t"][sample : sample + 1], short)
        assert relative_l2(found, golden["output_full"][sample : sample + 1]) < 1e-5
