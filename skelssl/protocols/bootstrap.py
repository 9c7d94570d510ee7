"""Confidence intervals by resampling test samples (Efron and Tibshirani, 1993, chapter 13)."""

import numpy as np

RESAMPLES = 10_000


def paired_interval(first: np.ndarray, second: np.ndarray, share: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the difference of two accuracies on the same test samples, in percentage points.

    Args:
        first, second: (S) values of the same samples: correct or not, or a mean over several encoders.
        share: of the resampled differences that lie in the interval.
        seed: of the resampling.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"expected two equally long rows of samples, found {first.shape} and {second.shape}")
    difference = first.astype(np.float64) - second.astype(np.float64)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(difference), np.full(len(difference), 1 / len(difference)), size=RESAMPLES)
    means = 100 * (counts @ difference) / len(difference)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
