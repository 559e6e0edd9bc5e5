"""The battery's own test: the real game passes it, and every copy that is broken on purpose is flagged."""

import pytest

from worldsim_envs.games import make_game
from worldsim_training.battery import selftest
from worldsim_training.battery.bars import BARS, MEANT_FOR, failed, passes
from worldsim_training.battery.tryouts import Size

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = Size(
    branches=12,
    random=32,
    windows=16,
    window_steps=48,
    state_steps=(16,),
    traces=12,
    probe_steps=450,
    ceiling_states=32,
)
PLAN = selftest.Plan(episodes=3, max_steps=300, size=SIZE, whole=False)


@pytest.fixture(scope="module", params=["boxing", "pong"])
def results(request):
    pytest.importorskip("ale_py")
    with make_game(request.param) as game:
        return selftest.self_test(game, PLAN, seed=0)


@pytest.mark.atari
def test_the_real_game_passes_every_gate(results):
    real = results["real"]
    measured = [key for key in BARS if key in real]
    assert failed(real) == []
    assert set(MEANT_FOR.values()) <= set(measured)
    assert (real["control_c"], real["action_ratio"], real["reward_f1"]) == (1.0, 1.0, 1.0)


@pytest.mark.atari
def test_every_broken_copy_is_flagged_by_the_figure_meant_for_it(results):
    assert selftest.complaints(results) == []
    for name, key in MEANT_FOR.items():
        assert not passes(key, results[name][key]), f"{name}: {key} is {results[name][key]}"


@pytest.mark.atari
def test_an_instrument_that_fails_on_the_real_game_is_named_with_its_reason(results):
    assert "was played to the end" in results["real"]["refused_ends"]
    assert "end_recall" not in results["real"]


def test_a_fault_that_passes_is_complained_of():
    good = dict.fromkeys(MEANT_FOR.values(), 1.0) | {"probe_ratio_16_worst": 1.0, "false_ends_per_2000": 0.0}
    bad = {key: float("nan") for key in good}
    sound = {"real": good} | {name: bad for name in MEANT_FOR}
    assert selftest.complaints(sound) == []
    assert selftest.complaints(sound | {"noisy": good}) == ["'noisy' is not flagged by picture_motion_ratio: 1.000"]
    assert selftest.complaints(sound | {"real": good | {"reward_f1": 0.5}}) == ["the real game fails reward_f1: 0.5"]
    unseen = {key: value for key, value in bad.items() if key != "reward_f1"} | {"refused_rewards": "no rewards"}
    assert selftest.complaints(sound | {"wrong rewards": unseen}) == [
        "'wrong rewards' cannot be flagged: reward_f1 was not measured (no rewards)"
    ]
