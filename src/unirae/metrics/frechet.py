"""Fréchet distance between two Gaussians in feature space (Heusel et al. 2017, equation 6; FID).

    d² = |μ₁ − μ₂|² + Tr(Σ₁) + Tr(Σ₂) − 2·Tr(√(Σ₁Σ₂))

With Σ = F·Fᵀ the last trace is the nuclear norm of F₁ᵀF₂ (its sum of singular values), whatever the factors.
They are pivoted Cholesky factors here, in float64: backward stable also where a covariance is singular, which
it is whenever there are fewer images than features, and then quick, since the factors are as narrow as the
rank. The usual square root of the non-symmetric Σ₁Σ₂ loses half the digits there, or needs an ε.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.moments import Moments


def cholesky_factor(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d r"]:
    """F with F·Fᵀ = covariance, r its numerical rank (LAPACK's pstrf; tolerance d·ε·largest variance)."""
    from scipy.linalg.lapack import dpstrf  # pyright: ignore[reportAttributeAccessIssue]

    lower, pivots, rank, _ = dpstrf(covariance.numpy(), lower=1)
    factor = torch.zeros_like(covariance)
    factor[torch.from_numpy(pivots).long() - 1] = torch.from_numpy(lower).tril()
    return factor[:, :rank]


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of N(μ₁, Σ₁) and N(μ₂, Σ₂), known as FID; ≥ 0."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"features of {len(a.mean)} and {len(b.mean)} numbers cannot be compared: "
            "both sides need the same feature extractor"
        )
    # On the CPU: the last digits should not depend on where the features came from.
    (mean_a, cov_a), (mean_b, cov_b) = ((m.mean.cpu(), m.covariance.cpu()) for m in (a, b))
    difference = mean_a - mean_b
    trace_of_root = torch.linalg.svdvals(cholesky_factor(cov_a).T @ cholesky_factor(cov_b)).sum()
    distance = difference.dot(difference) + cov_a.trace() + cov_b.trace()
    return max(float(distance) - 2.0 * float(trace_of_root), 0.0)


def frechet_name(extractor: FeatureExtractor) -> str:
    """Name of the Fréchet distance in these features: only the FID network's own is ``fid``.

    ``fid`` (Inception), ``fid_random_inception`` (without its weights, for smoke tests), ``fd_<name>``.
    """
    return {"inception": "fid", "random_inception": "fid_random_inception"}.get(
        extractor.name, f"fd_{extractor.name}"
    )
