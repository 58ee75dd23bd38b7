"""Fréchet distance between two sets of features."""

import numpy as np
import torch

__all__ = ['frechet_distance']


def frechet_distance(real: torch.Tensor | np.ndarray, generated: torch.Tensor | np.ndarray) -> float:
    """The Fréchet distance between normal distributions with the means and covariances of two sets of features.

    That of the features of Inception is the FID (https://arxiv.org/abs/1706.08500); as there, covariances are unbiased.
    With fewer rows than columns the covariance has no full rank, and the distance is too large.

    Args:
        real: [N, C], N at least 2.
        generated: [M, C], M at least 2.

    Returns:
        The squared distance, in squared units of the features; 0 for equal sets.

    Raises:
        ValueError: Other shapes, or values that are not finite.
    """
    sets = [np.asarray(features, dtype=np.float64) for features in (real, generated)]
    for features in sets:
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != sets[0].shape[1]:
            shapes = ' and '.join(str(list(rows.shape)) for rows in sets)
            raise ValueError(f'two sets of features [N, C] with N at least 2 are wanted, got {shapes}')
        if not np.isfinite(features).all():
            raise ValueError('the features hold NaN or infinity')
    (mean, covariance), (other_mean, other_covariance) = [
        (rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))) for rows in sets
    ]
    # The trace of the root of a product is the sum of the singular values of the product of the roots, of which no part
    # is imaginary, however few rows there are.
    roots = [_root(matrix) for matrix in (covariance, other_covariance)]
    shared = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    distance = ((mean - other_mean) ** 2).sum() + covariance.trace() + other_covariance.trace() - 2 * shared
    return max(float(distance), 0.0)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
