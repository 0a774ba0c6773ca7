"""Seams between patches, on images whose steps are known."""

import math

import pytest
import torch

from unirae.evaluation.diagnosis.seams import Seams


def seams(images, patch_size=4):
    meter = Seams(patch_size)
    meter.update(images)
    return meter.compute()


def test_a_ramp_has_none():
    ramp = torch.arange(16, dtype=torch.uint8).expand(1, 3, 16, 16)
    assert seams(ramp) == pytest.approx(1.0)
    assert seams(ramp.transpose(-1, -2)) == pytest.approx(1.0)


def test_a_step_at_borders_only_and_one_inside_only():
    """Columns rise by 3 at each border of a patch, by 1 elsewhere; rows do not change."""
    steps = torch.tensor([3 if column % 4 == 0 else 1 for column in range(1, 16)])
    columns = torch.cat([torch.zeros(1, dtype=torch.int64), steps.cumsum(0)]).to(torch.uint8)
    assert seams(columns.expand(2, 3, 16, 16)) == pytest.approx(3.0)


def test_patches_of_one_colour_each():
    tiles = torch.tensor([10, 200], dtype=torch.uint8).repeat_interleave(4).expand(1, 3, 8, 8)
    assert math.isnan(seams(tiles))  # no step at all inside


def test_batches_add_up():
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    meter = Seams(4)
    meter.update(images[:2])
    meter.update(images[2:])
    assert meter.compute() == seams(images)


def test_an_image_of_one_patch_has_no_border():
    assert math.isnan(seams(torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(1, 3, 4, 4)))
