"""How far an accuracy may be from that of all files of its kind."""

import math

__all__ = ['wilson_interval']


def wilson_interval(hits: int, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a fraction (Journal of the American Statistical Association 22, 1927, 209-212).

    It stays within 0 and 1, and of a few files it is wide even where all or none are right.

    Args:
        hits: How many files are right.
        number: Of how many, at least one.
        z: Quantile of the normal distribution; that of a 95% interval.

    Returns:
        Lower and upper end.
    """
    center = (hits + z * z / 2) / (number + z * z)
    half = z / (number + z * z) * math.sqrt(hits * (number - hits) / number + z * z / 4)
    return max(center - half, 0.0), min(center + half, 1.0)
