"""How far vectors are from what is usual: Mahalanobis, "On the generalised distance in statistics", 1936.

What hardly ever varies counts as much as what varies a lot: each direction is measured in its own standard deviation.
Directions in which nothing at all varied are given a share of the mean variance, or any noise would be infinitely far:
shrinkage towards the sphere, as by Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
matrices", 2004, with a share that is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHRINKAGE = 0.05
_LEAST = 1e-12  # where nothing ever varied


class Usual(nn.Module):
    """Mean and whitening of vectors of F numbers; at first each number's own size counts."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.eye(width))

    @torch.no_grad()
    def measure(self, samples: Tensor) -> None:
        """Take these for usual. samples: (N, F)"""
        exact = samples.double()
        mean = exact.mean(dim=0)
        covariance = (exact - mean).T @ (exact - mean) / len(exact)  # (F, F)
        variances, directions = torch.linalg.eigh(covariance)
        variances = (1.0 - _SHRINKAGE) * variances.clamp(min=0.0) + _SHRINKAGE * variances.mean() + _LEAST
        self.mean.copy_(mean)
        self.whitening.copy_((directions * variances.rsqrt()) @ directions.T)

    def distance(self, vectors: Tensor) -> Tensor:
        """Root mean square over the directions: about 1 is usual. (..., F) -> (...)"""
        whitened = (vectors - self.mean) @ self.whitening
        distance: Tensor = whitened.square().mean(dim=-1).sqrt()
        return distance
