"""How well masks fit, by the measures of DAVIS: region similarity J and contour accuracy F.

https://arxiv.org/abs/1704.00675 (DAVIS 2017) has the protocol, https://doi.org/10.1109/CVPR.2016.85 the measures.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ['VOID', 'ObjectScore', 'contour_accuracy', 'region_similarity', 'score_labels']

VOID = 255  # the label of pixels that nobody has annotated
_TOLERANCE = 0.008  # of the frame's diagonal


def region_similarity(predicted: torch.Tensor, true: torch.Tensor) -> float:
    """J: intersection over union of two masks, bool [H, W]; 1 if both are empty."""
    predicted, true = (torch.as_tensor(mask).bool() for mask in (predicted, true))
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


def contour_accuracy(predicted: torch.Tensor, true: torch.Tensor, tolerance: float = _TOLERANCE) -> float:
    """F: harmonic mean of the precision and the recall of a mask's contour.

    Args:
        predicted: bool [H, W].
        true: bool [H, W].
        tolerance: How far from the other contour a point may be, as a fraction of the diagonal, rounded up to pixels.

    Returns:
        0 to 1; 1 if both masks are empty.

    Raises:
        ImportError: SciPy is not installed.
    """
    contours = [_contour(np.asarray(mask, dtype=bool)) for mask in (predicted, true)]
    empty = [not contour.any() for contour in contours]
    if any(empty):
        return float(all(empty))
    reach = math.ceil(tolerance * math.hypot(*contours[0].shape))
    precision, recall = ((_distance_to(other)[mine] <= reach).mean() for mine, other in (contours, reversed(contours)))
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _contour(mask: np.ndarray) -> np.ndarray:
    """The pixels that differ from the one to the right, below, or right below: the official contour, one pixel wide."""
    padded = np.pad(mask, (0, 1), mode='edge')
    right, below, across = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != across)


def _distance_to(contour: np.ndarray) -> np.ndarray:
    """Of each pixel, to the nearest of a contour, in pixels."""
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError as error:
        raise ImportError("contour accuracy needs SciPy: pip install 'videozoo-timm[propagate]'") from error
    return np.asarray(distance_transform_edt(~contour))


@dataclass(frozen=True)
class ObjectScore:
    """How well one object was followed.

    Attributes:
        label: Of the object.
        region: J, mean over the frames.
        contour: F, mean over the frames.
    """

    label: int
    region: float
    contour: float


def score_labels(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], objects: Iterable[int] | torch.Tensor
) -> list[ObjectScore]:
    """J and F of each object, mean over frames.

    Args:
        pairs: Predicted and true labels of each frame, uint8 [H, W] both. The official evaluation leaves the first and
            the last frame of a video out.
        objects: Labels of the objects. Where the true label is 255 nothing counts.

    Returns:
        A score for each object; none if there are no frames.
    """
    objects = [int(label) for label in objects]
    values: list[list[tuple[float, float]]] = []
    for predicted, true in pairs:
        known = true != VOID
        masks = [((predicted == label) & known, (true == label) & known) for label in objects]
        values.append([(region_similarity(*both), contour_accuracy(*both)) for both in masks])
    if not values:
        return []
    means = np.mean(values, axis=0)  # [objects, 2]
    return [ObjectScore(label, *map(float, row)) for label, row in zip(objects, means, strict=True)]
