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


@pytest.mark.atari
def test_a_chicken_that_is_thrown_back_is_asked_nothing():
    pytest.importorskip("ale_py")
    with make_game("freeway") as game:
        heldout = record_heldout(game, split="validation", seed=0, episodes=6, max_steps=600, save_every=8)
        trials = control.choose_trials(game, heldout, 60, past=4, rng=np.random.default_rng(0))
        moved = control.real_displacements(game, heldout, trials)
        heard = []
        for trial in trials:
            game.restore(heldout.saved[trial.moment.episode][trial.moment.frame])
            heard.append(game.is_obeyed())
    assert all(heard)
    assert control.scores(moved).mean() > 0.75  # the rest meet a car within the four steps
