"""Confidence intervals by resampling test samples (Efron and Tibshirani, 1993, chapter 13)."""

import numpy as np

RESAMPLES = 10_000
AT_ONCE = 2_000_000  # counts that are drawn together


def interval(values: np.ndarray, share: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of values (S) of samples, in percent.

    Args:
        values: of samples: correct or not, or a mean over several encoders.
        share: of the resampled means that lie in the interval.
        seed: of the resampling.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"expected a row of samples, found {values.shape}")
    # samples of equal value are drawn together: how often each value comes has the same law
    found, counts = np.unique(values.astype(np.float64), return_counts=True)
    generator = np.random.default_rng(seed)
    rows = max(1, AT_ONCE // len(found))
    means = np.concatenate(
        [
            generator.multinomial(len(values), counts / len(values), size=min(rows, RESAMPLES - start)) @ found
            for start in range(0, RESAMPLES, rows)
        ]
    )
    low, high = np.quantile(100 * means / len(values), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def paired_interval(first: np.ndarray, second: np.ndarray, share: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the difference of two means over the same test samples, in percentage points.

    Args:
        first, second: (S) values of the same samples, see `interval`.
        share, seed: as those of `interval`.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"expected two equally long rows of samples, found {first.shape} and {second.shape}")
    return interval(first.astype(np.float64) - second.astype(np.float64), share, seed)
