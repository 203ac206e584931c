"""Confidence intervals of the mean and the median of a few measurements."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np

# quantiles of Student's t for 95 %, by degrees of freedom
STUDENT_95 = {3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36}


def relative_mean_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean, relative to the mean.

    Neighbouring values are correlated, so it is computed from the means of up to 8 runs of neighbours. For two or three
    values it is half the distance between the smallest and the largest; for one value it is NaN."""
    count = min(8, len(values))
    if count < 2:
        return math.nan
    if count < 4:
        return (max(values) - min(values)) / 2 / statistics.fmean(values)
    cuts = [round(i * len(values) / count) for i in range(count + 1)]
    means = [statistics.fmean(values[low:high]) for low, high in itertools.pairwise(cuts)]
    error = statistics.stdev(means) / math.sqrt(count)
    return STUDENT_95[count - 1] * error / statistics.fmean(values)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the bounds of its 95 % bootstrap confidence interval."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return statistics.median(values), float(low), float(high)
