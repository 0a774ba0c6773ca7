import pytest
import torch

from unirae.evaluation.judges.retrieval import exchanged_within_classes, ranks, shares_within, thumbnails


def test_a_rank_counts_the_pictures_that_are_nearer_or_as_near():
    bank = torch.tensor([[0.0], [1.0], [3.0], [3.0], [7.0]])
    samples = torch.tensor([[0.1], [0.9], [3.0], [6.0], [0.4]])
    # the third picture equals the fourth: neither can be found by luck
    assert ranks(samples, bank, torch.tensor([0, 0, 2, 4, 3])).tolist() == [0, 1, 1, 0, 3]


def test_ranks_of_perfect_samples_are_zero_and_those_of_noise_are_spread_evenly():
    draws = torch.Generator().manual_seed(0)
    bank = torch.randn(50, 6, generator=draws)
    meant = torch.arange(50).repeat_interleave(40)
    assert ranks(bank[meant], bank, meant).eq(0).all()
    found = ranks(torch.randn(2000, 6, generator=draws), bank, torch.randint(50, (2000,), generator=draws))
    assert float(found.double().mean()) == pytest.approx(24.5, abs=1.5)


def test_the_error_is_over_pictures_and_not_over_their_samples():
    meant = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    found = torch.tensor([0, 0, 0, 0, 9, 9, 9, 9])  # four samples of a picture say the same
    share = shares_within(found, meant, nearest=(1,))[1]
    assert share.value == 0.5
    assert share.error == pytest.approx(0.5)
    assert shares_within(found, meant, nearest=(10,))[10].value == 1.0


def test_names_are_exchanged_within_classes_and_nobody_keeps_its_own():
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 2])
    partner = exchanged_within_classes(labels, seed=3)
    assert torch.equal(labels[partner], labels)
    assert sorted(partner.tolist()) == list(range(7))
    assert [i for i in range(7) if partner[i] == i] == [6]  # alone in its class
    assert torch.equal(partner, exchanged_within_classes(labels, seed=3))


def test_thumbnails_are_means_over_areas():
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    images[1, 0, :8, :8] = 255
    found = thumbnails(images).view(2, 3, 8, 8)
    assert found[0].eq(0).all()
    assert found[1, 0, 0, 0] == 1.0
    assert found.sum() == 1.0
