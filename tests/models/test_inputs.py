"""What a user hands over wrongly from Python: one line that says what would be right; nothing waits in a loop."""

import re

import pytest
import torch

from tiny_dit import inputs, tiny_dit
from tiny_models import tiny_rae
from unirae.core.errors import InputError, UserError


@pytest.fixture(scope="module")
def rae():
    return tiny_rae().eval()


RIGHT = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["encode", "reconstruct"])
@pytest.mark.parametrize(
    ("images", "what"),
    [
        (RIGHT * 255, "images / 255"),
        (RIGHT * 2 - 1, r"\(images \+ 1\) / 2"),
        ((RIGHT - 0.45) / 0.22, "mean and std to the encoder"),
        (RIGHT * float("nan"), "from nan"),
    ],
    ids=["255", "signed", "normalised", "nan"],
)
def test_values_of_another_convention_are_warned_of_once(method, images, what, recwarn):
    rae = tiny_rae().eval()
    encode = getattr(rae, method)
    with pytest.warns(UserWarning, match=rf"{method}.*{what}") as found:
        encode(images)
    assert found[0].filename == __file__  # the user's line, not ours
    encode(images)
    rae.encode(images)
    assert not recwarn.list


def test_decoded_images_overshoot_and_are_right(rae):
    rae.encode(RIGHT * 1.9 - 0.45)  # warnings are errors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_point_types_are_converted(rae, dtype):
    expected = rae.encode(RIGHT.to(dtype).float())
    assert torch.equal(rae.encode(RIGHT.to(dtype)), expected)
    assert torch.equal(rae.reconstruct(RIGHT.to(dtype)), rae.reconstruct(RIGHT.to(dtype).float()))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((RIGHT * 255).to(torch.uint8), "got torch.uint8; convert 8-bit values with images / 255"),
        (RIGHT[0], "got [3, 32, 32]; add the batch with images[None]"),
        (RIGHT[0].permute(1, 2, 0), "images.permute(2, 0, 1)[None]"),
        (RIGHT.permute(0, 2, 3, 1), "channels come first: images.permute(0, 3, 1, 2)"),
        (RIGHT[:, :1], "grey becomes RGB by images.expand(-1, 3, -1, -1)"),
        (torch.rand(1, 4, 32, 32), "leave transparency out with images[:, :3]"),
        (RIGHT.numpy(), "not numpy.ndarray"),
        ([RIGHT], "not list"),
    ],
    ids=["uint8", "single", "numpy order", "channels last", "grey", "rgba", "array", "list"],
)
@pytest.mark.parametrize("method", ["encode", "latents", "tokens", "reconstruct", "forward"])
def test_images_of_another_form_are_refused(rae, images, message, method):
    with pytest.raises(InputError, match=re.escape(message)):
        getattr(rae, method)(images)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(16, 4, 4), "[b, 16, 4, 4], got [16, 4, 4]; add the batch with latents[None]"),
        (torch.zeros(1, 8, 4, 4), "[b, 16, 4, 4], got [1, 8, 4, 4]"),
        (torch.zeros(1, 16, 8, 8), "[b, 16, 4, 4], got [1, 16, 8, 8]"),
        (torch.zeros(1, 16, 4, 4, dtype=torch.long), "floating point, got torch.int64"),
        ("latents", "not str"),
    ],
)
def test_latents_of_another_form_are_refused(rae, latents, message):
    with pytest.raises(InputError, match=re.escape(message)):
        rae.decode(latents)


@pytest.mark.parametrize("kind", ["dit", "dit_dh"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("t", 1, "t must be a floating-point tensor of shape [3], a time in [0, 1] for each image, got int"),
        ("t", 0.5, "torch.full((3,), 0.5)"),
        ("t", torch.tensor(0.5), "got torch.float32 of shape []"),
        ("t", torch.tensor([0, 1, 1]), "got torch.int64 of shape [3]"),
        (
            "t",
            torch.tensor([0.0, 500.0, 999.0]),
            "t must lie in [0, 1] (0 is data, 1 is noise), got 0 to 999",
        ),
        ("y", 3, "y must be an int64 tensor of shape [3], a label for each image, got int"),
        ("y", torch.tensor([0.0, 1.0, 2.0]), "got torch.float32 of shape [3]"),
        ("y", torch.tensor([0]), "got torch.int64 of shape [1]"),
        ("y", torch.tensor([0, 1, 6]), "labels [0, 1, 6] are not all known: this model has classes 0 to 4"),
        ("y", torch.tensor([0, -1, 1]), "labels [-1, 0, 1]"),
        ("x", torch.zeros(3, 4, 6), "this DiT reads latents (3, 4, 6)"),
    ],
)
def test_what_a_network_cannot_read_is_refused(kind, name, value, message):
    arguments = dict(zip("xty", inputs(), strict=True)) | {name: value}
    with pytest.raises(InputError, match=re.escape(message)):
        tiny_dit(kind)(**arguments)


def test_an_input_error_is_a_value_error_and_a_mistake_of_the_user():
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, UserError)
