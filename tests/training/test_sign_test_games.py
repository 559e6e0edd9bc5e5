"""The sign test in games whose player never moves in the picture: it must give the real game full marks."""

import numpy as np
import pytest

from worldsim_envs.games import make_game
from worldsim_training import control
from worldsim_training.heldout import record_heldout


@pytest.mark.parametrize(
    ("name", "package", "commands"),
    [
        ("carracing", "Box2D", ("steer-", "steer+", 0)),
        pytest.param("take_cover", "vizdoom", ("left", "right", 0), marks=pytest.mark.doom),
    ],
)
def test_opposite_commands_move_what_is_read_opposite_ways(name, package, commands):
    pytest.importorskip(package)
    with make_game(name) as game:
        assert control.opposites(game) == [commands]
        heldout = record_heldout(game, split="validation", seed=1, episodes=2, max_steps=60, save_every=4)
        trials = control.choose_trials(game, heldout, 6, past=4, rng=np.random.default_rng(0))
        moved = control.real_displacements(game, heldout, trials)
    assert control.scores(moved).all()
    assert (moved[:, 1] - moved[:, 0] > 8).all()
