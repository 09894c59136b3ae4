"""Drawing segments, and the update's own arithmetic."""

from __future__ import annotations

import pytest
import torch

from trainer.update import draw_segments, segment_probabilities


def test_priorities_follow_the_size_of_advantages() -> None:
    advantages = torch.tensor([[1.0, -2.0, 0.0], [1.0, -2.0, 4.0]])  # sums of sizes: 2, 4, 4
    assert segment_probabilities(advantages, 1.0).tolist() == pytest.approx([0.2, 0.4, 0.4])
    assert segment_probabilities(advantages, 0.0).tolist() == pytest.approx([1 / 3] * 3)
    assert segment_probabilities(torch.zeros(5, 4), 0.7).tolist() == pytest.approx([0.25] * 4)


def test_uniform_drawing_of_all_segments_is_one_pass_in_random_order() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_segments(torch.full((1000,), 1e-3, dtype=torch.float64), 1000, generator)
    assert sorted(drawn.tolist()) == list(range(1000))
    assert drawn.tolist() != list(range(1000))


def test_segments_are_drawn_as_often_as_their_probabilities_say() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(50, generator=generator, dtype=torch.float64)
    probabilities /= probabilities.sum()
    counts = torch.zeros(50)
    for _ in range(2000):
        drawn = torch.bincount(draw_segments(probabilities, 25, generator), minlength=50)
        expected = 25 * probabilities
        assert bool(((drawn >= expected.floor()) & (drawn <= expected.ceil())).all())
        counts += drawn
    torch.testing.assert_close(counts.double() / 2000, 25 * probabilities, atol=0.06, rtol=0)


def test_importance_weights_undo_the_priorities() -> None:
    """The weighted mean over drawn segments estimates the plain mean over all."""
    generator = torch.Generator().manual_seed(2)
    advantages = torch.randn(8, 200, generator=generator)
    signal = advantages.sum(0).double()
    probabilities = segment_probabilities(advantages, 0.8)
    weights = 1 / (200 * probabilities)
    means = []
    for _ in range(500):
        drawn = draw_segments(probabilities, 50, generator)
        means.append((weights[drawn] * signal[drawn]).mean())
    assert float(torch.stack(means).mean()) == pytest.approx(float(signal.mean()), abs=0.05)
