"""Who acts in a game that is watched."""

from __future__ import annotations

from trainer.play import Game


def test_random_play_takes_allowed_actions_only() -> None:
    game = Game("connect4", seed=1)
    taken = set()
    for _ in range(500):
        allowed = game.env.action_mask[0].copy()
        (column,) = game.step().action
        assert allowed[int(column)]
        taken.add(column)
    assert len(taken) == 7
