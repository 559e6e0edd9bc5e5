"""The battery in a game whose own action is a vector of axes and pedals."""

import pytest

from worldsim_envs.games import make_game
from worldsim_training.battery.bars import failed
from worldsim_training.battery.broken import broken
from worldsim_training.battery.simulator import RealSimulator
from worldsim_training.battery.tryouts import Size, set_up
from worldsim_training.heldout import record_heldout


def test_exact_branches_pass_the_real_game_and_flag_one_that_ignores_actions():
    pytest.importorskip("Box2D")
    with make_game("carracing") as game:
        heldout = record_heldout(game, split="validation", seed=0, episodes=1, max_steps=24, save_every=4)
        bench = set_up(game, heldout, Size(branches=3, steps=4), past=4, seed=0, names=("control",))
        assert not bench.refused and bench.futures["branches"].actions.shape == (3, 2, 4, 3)
        real = RealSimulator(game, heldout)
        sound, deaf = (bench.score(each) for each in (real, broken(game, heldout, real)["ignores actions"]))
    assert not failed(sound) and sound["control_c"] == 1.0
    assert "control_c" in failed(deaf)
