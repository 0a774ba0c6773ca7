"""Nearest training images, the measure of copying, and Fréchet distances of labelled sets."""

import pytest
import torch

from tiny_latents import tiny_rae
from unirae.evaluation.judges.class_frechet import LabelledFeatures, distance, distance_within_classes, redraw
from unirae.evaluation.judges.nearest import find_nearest, score_copies, token_vectors


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_are_those_of_a_plain_loop():
    queries, bank = noise(5, 7), noise(11, 7, seed=1)
    found = find_nearest(queries, bank, count=3)
    for i in range(5):
        by_hand = sorted(range(11), key=lambda k: float((queries[i] - bank[k]).norm()))[:3]
        assert found.indices[i].tolist() == by_hand
        assert found.distances[i].tolist() == pytest.approx(
            [float((queries[i] - bank[k]).norm()) for k in by_hand]
        )


def test_a_copy_is_at_no_distance_even_among_large_numbers():
    bank = noise(40, 300) + 1000
    found = find_nearest(bank[[7, 3]], bank)
    assert found.indices[:, 0].tolist() == [7, 3]
    assert found.distances.tolist() == [[0.0], [0.0]]


def test_a_small_bank_gives_what_it_has():
    assert find_nearest(noise(2, 3), noise(2, 3, seed=1), count=5).indices.shape == (2, 2)


def test_copies_are_told_from_new_images():
    near, far = noise(200, seed=2).abs() + 1, noise(200, seed=3).abs() + 10
    learned_by_heart = score_copies(copies=near, new=far, samples=near)
    assert learned_by_heart.samples_as_near_as_copies == pytest.approx(0.95, abs=0.01)
    assert learned_by_heart.new_as_near_as_copies == 0
    inventing = score_copies(copies=near, new=far, samples=far)
    assert inventing.samples_as_near_as_copies == 0
    assert inventing.median_of_samples == inventing.median_of_new > inventing.median_of_copies


def test_token_vectors_hold_every_token_in_place():
    rae = tiny_rae()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    vectors = token_vectors(rae, images)
    assert vectors.shape == (3, 16 * 4 * 4)
    torch.testing.assert_close(vectors[1].view(16, 4, 4), rae.tokens(images[1:2].float() / 255)[0])


def features(count, *, shift=0.0, seed=0):
    """Three classes around points of their own."""
    labels = torch.arange(count) % 3
    centres = 4 * noise(3, 5, seed=9)
    return LabelledFeatures(features=centres[labels] + noise(count, 5, seed=seed) + shift, labels=labels)


def test_the_distance_within_classes_sees_wrong_labels():
    reference, candidate = features(300), features(60, seed=1)
    wrong = LabelledFeatures(features=candidate.features, labels=(candidate.labels + 1) % 3)
    assert distance(wrong, reference) == distance(candidate, reference)
    assert distance_within_classes(wrong, reference) > 5 * distance_within_classes(candidate, reference)


def test_the_distance_within_classes_is_their_mean():
    reference, candidate = features(300), features(61, seed=1)
    parts = [
        (own := candidate[candidate.labels == k], distance(own, reference[reference.labels == k]))
        for k in range(3)
    ]
    expected = sum(len(own.labels) * d for own, d in parts) / 61
    assert distance_within_classes(candidate, reference) == pytest.approx(expected)


def test_classes_of_one_image_are_left_out():
    reference, candidate = features(300), features(40, seed=1)
    lonely = torch.cat([(candidate.labels != 2).nonzero()[:, 0], (candidate.labels == 2).nonzero()[:1, 0]])
    rest = candidate[candidate.labels != 2]
    found = distance_within_classes(candidate[lonely], reference)
    assert found == pytest.approx(distance_within_classes(rest, reference))


def test_a_redrawn_split_has_the_counts_asked_for():
    data = features(90)
    drawn, rest = redraw([5, 0, 12], data, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn.labels, minlength=3).tolist() == [5, 0, 12]
    assert len(rest.labels) == 90 - 17
    both = torch.cat([drawn.features, rest.features])
    assert torch.equal(both.sort(0).values, data.features.sort(0).values)
    again, _ = redraw([5, 0, 12], data, torch.Generator().manual_seed(1))
    assert not torch.equal(again.features, drawn.features)
