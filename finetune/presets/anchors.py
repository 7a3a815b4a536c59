"""Values that follow from the number of pictures, between those that were measured."""

import math
from itertools import pairwise


def interpolate(n: float, anchors: tuple[tuple[float, float], ...]) -> float:
    """Value at `n` between anchors (n, value), linear in log n and log value, constant outside
    them."""
    if n <= anchors[0][0]:
        return anchors[0][1]
    for (n0, v0), (n1, v1) in pairwise(anchors):
        if n <= n1:
            share = math.log(n / n0) / math.log(n1 / n0)
            return v0 * (v1 / v0) ** share
    return anchors[-1][1]
