from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unirae.core.errors import ConfigError
from unirae.losses.adversarial import discriminator_loss, generator_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "discriminator_head.safetensors"


@pytest.mark.parametrize(("name", "key"), [("hinge", "hinge_d"), ("vanilla", "vanilla_d")])
def test_discriminator_losses_match_the_reference(name, key):
    golden = load_file(GOLDEN)
    found = discriminator_loss(name)(golden["logits_real"], golden["logits_fake"])
    torch.testing.assert_close(found, golden[key])


def test_generator_loss_matches_the_reference():
    golden = load_file(GOLDEN)
    torch.testing.assert_close(generator_loss(golden["logits_fake"]), golden["vanilla_g"])


def test_losses_are_computed_in_full_precision():
    real, fake = torch.randn(2, 4, 50, dtype=torch.bfloat16)
    for name in ("hinge", "vanilla"):
        loss = discriminator_loss(name)(real, fake)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, discriminator_loss(name)(real.float(), fake.float()))


def test_unknown_loss_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'hing'; known: hinge, vanilla"):
        discriminator_loss("hing")
