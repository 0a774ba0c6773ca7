"""Weighted nearest neighbours: against scikit-learn, ties to what DINO's formula says, few training images."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from unirae.evaluation.probe.knn import KnnSettings, knn_votes


def some(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(99))
    return centres[labels] + torch.randn(count, 8, generator=generator), labels


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (5, 0.5)])
def test_votes_are_those_of_scikit_learn(k, temperature):
    x, labels = some(200, seed=0)
    queries, _ = some(60, seed=1)
    votes = knn_votes(queries, x, labels, num_classes=4, settings=KnnSettings(k=k, temperature=temperature))
    other = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp(-d / temperature))
    other.fit(x.numpy(), labels.numpy())
    torch.testing.assert_close(
        votes / votes.sum(1, keepdim=True),
        torch.from_numpy(other.predict_proba(queries.numpy())).float(),
        rtol=1e-3,
        atol=1e-4,
    )


def test_a_near_neighbour_outvotes_many_far_ones():
    training = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    query = torch.tensor([[5.0, 0.5]])  # its length does not matter
    sharp = knn_votes(query, training, labels, num_classes=3, settings=KnnSettings(k=4, temperature=0.07))
    blunt = knn_votes(query, training, labels, num_classes=3, settings=KnnSettings(k=4, temperature=100.0))
    assert (int(sharp.argmax()), int(blunt.argmax())) == (0, 1)
    assert float(sharp[0, 2]) == 0.0


def test_k_is_limited_by_the_training_images():
    settings = KnnSettings(k=20)
    assert settings.neighbours(7) == 7
    x, labels = some(7, seed=0)
    assert knn_votes(x, x, labels, num_classes=4, settings=settings).shape == (7, 4)


def test_parts_of_the_similarity_matrix_change_nothing(monkeypatch):
    x, labels = some(50, seed=0)
    queries, _ = some(33, seed=1)
    whole = knn_votes(queries, x, labels, num_classes=4, settings=KnnSettings())
    monkeypatch.setattr("unirae.evaluation.probe.knn._SIMILARITIES_AT_ONCE", 500)
    parts = knn_votes(queries, x, labels, num_classes=4, settings=KnnSettings())
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)
