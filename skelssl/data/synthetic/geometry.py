"""Vectors, rotations and keyframes over time. Vectors are (..., 3); T frames come before them."""

import numpy as np

Row = tuple[float, float, float]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector product; several times as fast as NumPy's on short sequences."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), axis=-1)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 1) scalar product."""
    return (a * b).sum(axis=-1, keepdims=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-12)


def perpendicular(vectors: np.ndarray, to: np.ndarray) -> np.ndarray:
    """The direction of what is left of vectors without their part along unit vectors `to`."""
    return unit(vectors - dot(vectors, to) * to)


def rotation(flexion: np.ndarray, lateral: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(T, 3, 3) rotations of column vectors by angles (T): about z (lateral), then x (flexion), then y (turn).

    Positive flexion tips y towards z, positive turn z towards x, positive lateral x towards y.
    """
    cx, sx, cz, sz, cy, sy = (f(angle) for angle in (flexion, lateral, turn) for f in (np.cos, np.sin))
    rows = (
        (cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx),
    )
    return np.stack([entry for row in rows for entry in row], axis=-1).reshape(*flexion.shape, 3, 3)


def turned(vectors: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Vectors turned about the vertical axis, z towards x."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack((cosine * x + sine * z, y, cosine * z - sine * x), axis=-1)


def smooth(progress: np.ndarray) -> np.ndarray:
    """From 0 to 1 over [0, 1] with speed 0 at both ends."""
    progress = np.clip(progress, 0, 1)
    return progress * progress * (3 - 2 * progress)


def through(phase: np.ndarray, times: list[float], values: list[float] | list[np.ndarray]) -> np.ndarray:
    """Keyframes: smoothly from each value to the next, at rest at each of them; the outer ones are held.

    Args:
        phase: (T).
        times: of the keyframes, rising.
        values: numbers or vectors, one for each.

    Returns:
        (T), or (T, 3) for vectors.
    """
    keys, points = np.asarray(times), np.asarray(values, dtype=np.float64)
    segment = np.clip(np.searchsorted(keys, phase, side="right") - 1, 0, len(keys) - 2)
    progress = smooth((phase - keys[segment]) / (keys[segment + 1] - keys[segment]))
    if points.ndim == 2:
        progress = progress[:, None]
    return points[segment] + progress * (points[segment + 1] - points[segment])
