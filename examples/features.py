"""A Python function as the objective: ridge regression on random features, where more features cost more."""

import time

import numpy as np


def wave(points: np.ndarray) -> np.ndarray:
    """The function to learn: points [n, 3] to values [n]."""
    return np.sin(3 * points[:, 0]) * np.cos(2 * points[:, 1]) + 0.5 * np.sin(5 * points[:, 2])


def fit(features: int, scale: float, ridge: float, rows: int) -> dict[str, float]:
    """Fit `features` random cosines of frequency `scale` on `rows` noisy samples; score is R squared."""
    rng = np.random.default_rng(0)
    train, test = rng.uniform(-1, 1, (rows, 3)), rng.uniform(-1, 1, (2000, 3))
    target = wave(train) + 0.1 * rng.standard_normal(rows)
    frequency, phase = scale * rng.standard_normal((3, features)), rng.uniform(0, 2 * np.pi, features)

    started = time.process_time()
    basis = np.cos(train @ frequency + phase)
    weights = np.linalg.solve(basis.T @ basis + ridge * np.eye(features), basis.T @ target)
    seconds = time.process_time() - started

    truth = wave(test)
    error = truth - np.cos(test @ frequency + phase) @ weights
    return {"score": float(1 - error.var() / truth.var()), "cost": max(seconds, 1e-4)}
