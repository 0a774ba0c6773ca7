import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.core.keyed_random import Stream, sample_keys, uniform
from unirae.losses.diffaug import diff_augment

STREAM = Stream.AUGMENT_FAKE


def batch(n=5, height=16, width=24):
    torch.manual_seed(0)
    return torch.rand(n, 3, height, width) * 2 - 1, sample_keys(7, 3, torch.arange(n))


def augment_one(image, key, *, cutout=0.0):
    """The recipe for one image, step by step, with slices instead of index arithmetic."""
    down, right, brightness, saturation, contrast, hole_y, hole_x = (
        uniform(key[None], (10,), STREAM)[0, 3:].double().tolist()
    )
    _, h, w = image.shape
    dy, dx = round(h / 8), round(w / 8)
    ty, tx = int(down * (2 * dy + 1)) - dy, int(right * (2 * dx + 1)) - dx
    padded = F.pad(image, (w, w, h, h))
    image = padded[:, h + ty : 2 * h + ty, w + tx : 2 * w + tx]
    image = image + (brightness - 0.5)
    grey = image.mean(0, keepdim=True)
    image = grey + (image - grey) * 2 * saturation
    image = image.mean() + (image - image.mean()) * (contrast + 0.5)
    size_y, size_x = round(h * cutout), round(w * cutout)
    top = int(hole_y * (h + 1 - size_y % 2)) - size_y // 2
    left = int(hole_x * (w + 1 - size_x % 2)) - size_x // 2
    image = image.clone()
    image[:, max(top, 0) : max(top + size_y, 0), max(left, 0) : max(left + size_x, 0)] = 0
    return image


@settings(max_examples=25, deadline=None)
@given(height=st.integers(4, 20), width=st.integers(4, 20), cutout=st.sampled_from([0.0, 0.2, 0.5]))
def test_equals_the_recipe_step_by_step(height, width, cutout):
    images, keys = batch(3, height, width)
    found = diff_augment(images, keys, STREAM, cutout=cutout)
    wanted = torch.stack([augment_one(i, k, cutout=cutout) for i, k in zip(images, keys, strict=True)])
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)


def test_a_sample_is_augmented_alike_in_any_batch():
    images, keys = batch()
    whole = diff_augment(images, keys, STREAM, cutout=0.3, probability=0.5)
    parts = [
        diff_augment(images[s], keys[s], STREAM, cutout=0.3, probability=0.5)
        for s in (slice(0, 1), slice(1, 5))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    other = diff_augment(images, keys, Stream.AUGMENT_REAL)
    assert not torch.allclose(other, diff_augment(images, keys, STREAM))


def test_shifts_cover_their_range_and_bring_in_zeros():
    keys = sample_keys(0, 0, torch.arange(400))
    rows = torch.arange(1.0, 17.0).view(1, 1, 16, 1).expand(400, 3, 16, 16)
    shifted = diff_augment(rows, keys, STREAM, color=False)
    middle = shifted[:, 0, 8, 8] - 9.0  # the centre always comes from inside
    assert middle.unique().tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert middle.unique(return_counts=True)[1].min() > 50
    assert set(shifted.unique().tolist()) == set(range(17))


def test_probability_is_per_sample():
    images, _ = batch(1)
    images = images.expand(300, -1, -1, -1)
    keys = sample_keys(0, 0, torch.arange(300))
    unchanged = (
        (diff_augment(images, keys, STREAM, translation=0, probability=0.5) == images).flatten(1).all(1)
    )
    assert 0.4 < unchanged.float().mean() < 0.6
    assert torch.equal(diff_augment(images, keys, STREAM, cutout=0.5, probability=0.0), images)


def test_gradient_is_exact():
    images, keys = batch(2, 5, 6)
    images = images.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: diff_augment(x, keys[:2], STREAM, translation=0.3, cutout=0.3), images
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_out_in_full(dtype):
    images, keys = batch()
    assert diff_augment(images.to(dtype), keys, STREAM).dtype == torch.float32
