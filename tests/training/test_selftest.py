"""The battery's own test: the real game passes it, and every copy that is broken on purpose is flagged."""

import pytest

from worldsim_envs.games import make_game
from worldsim_training.battery import selftest
from worldsim_training.battery.bars import BARS, MEANT_FOR, failed, passes
from worldsim_training.battery.tryouts import INSTRUMENTS, Size

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
ELSEWHERE = ("features", "seen_rewards", "opponent")  # need more windows: test_fitted_instruments.py
NAMES = tuple(name for name in INSTRUMENTS if name not in ELSEWHERE)
PLAN = selftest.Plan(episodes=3, max_steps=300, size=SIZE, whole=False, names=NAMES)
FIRSTS = {name: keys[0] for name, keys in MEANT_FOR.items()}


@pytest.fixture(scope="module", params=["boxing", "pong"])
def results(request):
    pytest.importorskip("ale_py")
    with make_game(request.param) as game:
        return selftest.self_test(game, PLAN, seed=1)  # at these sizes a lost action is a close call with some seeds


@pytest.mark.atari
def test_the_real_game_passes_every_gate(results):
    real = results["real"]
    measured = [key for key in BARS if key in real]
    assert failed(real) == []
    assert set(FIRSTS.values()) <= set(measured)
    assert (real["control_c"], real["action_ratio"], real["reward_f1"]) == (1.0, 1.0, 1.0)


@pytest.mark.atari
def test_every_broken_copy_is_flagged_by_the_figure_meant_for_it(results):
    assert selftest.complaints(results) == selftest.gaps(results) == []
    for name, key in FIRSTS.items():
        assert not passes(key, results[name][key]), f"{name}: {key} is {results[name][key]}"


@pytest.mark.atari
def test_an_instrument_that_fails_on_the_real_game_is_named_with_its_reason(results):
    assert "was played to the end" in results["real"]["refused_ends"]
    assert "end_recall" not in results["real"]


def test_a_fault_that_passes_is_complained_of():
    good = dict.fromkeys(FIRSTS.values(), 1.0) | {"probe_ratio_16_worst": 1.0, "false_ends_per_2000": 0.0}
    bad = {key: float("nan") for key in good}
    sound = {"real": good} | {name: bad for name in MEANT_FOR}
    assert selftest.complaints(sound) == selftest.gaps(sound) == []
    assert selftest.complaints(sound | {"noisy": good}) == ["'noisy' is not flagged by picture_motion_ratio: 1.000"]
    assert selftest.complaints(sound | {"real": good | {"reward_f1": 0.5}}) == ["the real game fails reward_f1: 0.5"]


def test_what_a_game_does_not_show_is_a_gap_and_its_faults_fall_to_the_next_figure():
    real = {"control_c": 1.0, "picture_motion_ratio": 1.0, "refused_rewards": "the real game paid 0 times"}
    results = {"real": real, "frozen": {"picture_motion_ratio": 0.0}, "late by one step": {"control_c": 1.0}}
    assert selftest.meant_for("frozen", real) == "picture_motion_ratio"
    assert selftest.complaints(results) == ["'late by one step' is not flagged by control_c: 1.000"]
    told = selftest.gaps(results | {"wrong rewards": {}})
    assert "'wrong rewards' cannot be flagged by reward_f1: the real game paid 0 times" in told
    assert "'opponent erased' cannot be tried: the game reads no opponent from frames" in told
    assert not any("frozen" in line or "late" in line for line in told)


def test_the_command_tries_several_games_and_takes_up_what_is_finished(tmp_path, monkeypatch, capsys):
    size = Size(branches=6, random=4, windows=12, window_steps=24, state_steps=(16,), traces=1)
    plan = selftest.Plan(episodes=2, max_steps=120, size=size, names=("control", "pictures", "false_ends"))
    monkeypatch.setattr(selftest, "FULL", plan)
    command = ["toy_game:ToyGame", "encounter", "--parts", str(tmp_path)]
    assert selftest.main(command) == 1
    shown = capsys.readouterr().out
    assert "'opponent erased' cannot be flagged by probe_ratio_16_worst: it was not measured" in shown
    assert "toy: the real game passes, every fault that it can show is flagged" in shown
    assert "'drops actions' is not flagged by control_c: " in shown  # held actions forgive a lost one
    kept = sorted(path.stem for path in (tmp_path / "toy").iterdir())
    assert kept == sorted(["real", *MEANT_FOR])
    monkeypatch.setattr(selftest.Ledger, "part", lambda self, name, measure: self._kept(name))  # measures nothing anew
    assert selftest.main(command) == 1 and capsys.readouterr().out == shown


def test_an_unknown_game_is_refused_before_any_work(capsys):
    assert selftest.main(["boxing", "pongg"]) == 2
    assert capsys.readouterr().err.startswith("selftest: unknown game 'pongg'; did you mean 'pong'?")
