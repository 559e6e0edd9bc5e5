"""The battery's own parts: the two simulators, finished parts kept in a folder, determinism and drift."""

import json

import numpy as np
import pytest
from tiny import save_tiny_world, tiny_world
from toy_game import ToyGame
from toy_worlds import FrozenWorld, RealWorld

from worldsim.world_model import WorldModel
from worldsim_training import evaluate, imagine, stability
from worldsim_training.battery import determinism, drift, measure, tryouts
from worldsim_training.battery.broken import blur
from worldsim_training.battery.futures import branch_futures, recorded_futures
from worldsim_training.battery.ledger import Ledger
from worldsim_training.battery.simulator import Past, RealSimulator, WorldSimulator
from worldsim_training.battery.tryouts import Size
from worldsim_training.battery.verdicts import judge as judge_figures
from worldsim_training.heldout import Moment

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_real_simulator_plays_on_as_it_was_recorded(game, heldout):
    moments = [Moment(0, 21), Moment(2, 64)]
    futures = recorded_futures(game, heldout, moments, 5, past=4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(futures.real.frames[:, 0], heldout.future(moments, 5)[0])
    assert futures.real.rewards.shape == futures.real.ended.shape == (2, 1, 5)
    assert not futures.real.ended.any() and futures.states is None


def test_after_the_end_the_last_frame_stays(game, heldout):
    past = Past.of(heldout, [Moment(1, 337)], 4)
    played = RealSimulator(game, heldout).play(past, np.zeros((1, 1, 6), int), np.zeros(1, int))
    assert played.ended[0, 0].tolist() == [False, False, True, True, True, True]
    assert (played.frames[0, 0, 2:] == played.frames[0, 0, 2]).all()
    assert not (played.frames[0, 0, 1] == played.frames[0, 0, 2]).all()


def test_a_worlds_futures_share_their_past_and_its_chance():
    world = tiny_world()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 4, world.info.height, world.info.width, 3), dtype=np.uint8)
    past = Past(frames, np.zeros((3, 3), int), [Moment(0, 0)] * 3)
    simulator = WorldSimulator(world, imagine.Settings(steps=1, batch=2))
    actions = np.array([[[0, 0], [0, 0], [0, 1]]] * 3)
    played = simulator.play(past, actions, np.arange(3))
    assert played.frames.shape == (3, 3, 2, world.info.height, world.info.width, 3)
    np.testing.assert_array_equal(played.frames[:, 0], played.frames[:, 1])
    np.testing.assert_array_equal(played.frames[:, 0, 0], played.frames[:, 2, 0])
    again = simulator.play(past, actions, np.arange(3))
    assert all(np.array_equal(*pair) for pair in zip(vars(played).values(), vars(again).values(), strict=True))


def test_the_mask_is_what_some_action_changes_after_four_steps(game, heldout):
    futures = branch_futures(game, heldout, 3, 4, past=4, rng=np.random.default_rng(1))
    for i, moment in enumerate(futures.past.moments):
        pictures = []
        for action in range(5):
            heldout.resume(game, moment)
            pictures.append([game.step(action)[0] for _ in range(4)][-1])
        expected = (np.stack(pictures) != pictures[0]).any(axis=(0, -1))
        np.testing.assert_array_equal(futures.mask[i], expected)
    assert (futures.actions[:, 0] != futures.actions[:, 1]).all()


def test_a_game_that_tells_little_is_measured_in_what_it_tells_and_the_rest_is_named(game, heldout):
    size = Size(branches=6, random=4, windows=6, steps=8, window_steps=16, state_steps=(8,), traces=1, ceiling_states=2)
    bench = tryouts.set_up(game, heldout, size, past=4, seed=0)
    figures = bench.score(RealSimulator(game, heldout))
    assert figures["control_c"] == figures["counterfactual_onset"] == 1.0
    assert figures["onset_error"] == 0.0
    assert figures["refused_states"] == "toy does not tell its state (Game.visible_state)"
    assert "Game.effects" in figures["refused_actions"]
    assert figures["refused_rewards"] == "the real game paid 0 times in 96 steps; F1 takes 10"
    assert not any(key.startswith(("probe_", "action_", "reward_")) for key in figures)


def test_control_is_refused_where_the_two_actions_played_look_alike_in_the_real_game(heldout):
    class OnlyUp(ToyGame):
        def step(self, action):
            return super().step(action if action == 1 else 0)

    size, names = Size(branches=1, steps=4, traces=1), ("control",)
    for seed in range(20):
        bench = tryouts.set_up(OnlyUp(), heldout, size, past=4, seed=seed, names=names)
        figures = bench.score(RealSimulator(OnlyUp(), heldout), names)
        up = "branches" in bench.futures and 1 in bench.futures["branches"].actions[:, :, 0]
        assert up or list(figures) == ["refused_control"]
        if not up and "branches" in bench.futures:
            assert figures["refused_control"] == "control_c has no meaning on the real game's own frames"
            break
    else:
        raise AssertionError("no seed left `up` out")


def test_a_figure_does_not_depend_on_which_others_are_asked_for(game, heldout):
    size = Size(branches=6, steps=8, traces=1)
    whole = tryouts.set_up(game, heldout, size, past=4, seed=0, names=("control", "counterfactuals", "onset"))
    alone = tryouts.set_up(game, heldout, size, past=4, seed=0, names=("control",))
    real = RealSimulator(game, heldout)
    assert alone.score(real).items() <= whole.score(real).items()


def test_a_blur_keeps_an_even_picture_and_spreads_a_dot():
    even = np.full((2, 7, 9, 3), 80, np.uint8)
    np.testing.assert_array_equal(blur(even), even)
    dot = np.zeros((7, 9, 3), np.uint8)
    dot[3, 4] = 200
    spread = blur(dot).astype(int)
    assert 0 < spread[3, 3, 0] < spread[3, 4, 0] < 200
    assert abs(spread[..., 0].sum() - 200) <= 10  # halves are rounded


def test_a_finished_part_is_kept_for_the_same_measurement_only(tmp_path):
    def never():
        raise AssertionError("measured again")

    ledger = Ledger(tmp_path, {"seed": 0, "horizons": (1, 4)})
    assert ledger.part("gains", lambda: {"a": np.float64(2), "b": float("nan")}) == {"a": 2.0, "b": None}
    assert Ledger(tmp_path, {"seed": 0, "horizons": (1, 4)}).part("gains", never) == {"a": 2.0, "b": None}
    assert Ledger(tmp_path, {"seed": 1, "horizons": (1, 4)}).part("gains", lambda: {"a": 3}) == {"a": 3}
    assert json.loads((tmp_path / "gains.json").read_text())["figures"] == {"a": 3}


def test_a_damaged_part_is_measured_again(tmp_path):
    (tmp_path / "gains.json").write_text('{"identity": {}, "fig')
    assert Ledger(tmp_path, {}).part("gains", lambda: {"a": 1}) == {"a": 1}
    assert Ledger(tmp_path, {}).holds("gains")


def test_a_saved_world_repeats_itself_in_any_slot(tmp_path):
    world = WorldModel.from_pretrained(save_tiny_world(tmp_path / "tiny"))
    figures = determinism.measure_determinism(world, frames=6, steps=2, seed=0, world=None)
    assert figures["deterministic_again"] == figures["deterministic_slot"] == 1
    assert "deterministic_process" not in figures and figures["deterministic_frames"] == 6
    assert determinism.digest(world, 6, 2, 0) != determinism.digest(world, 6, 2, 1)


def test_drift_counts_a_rollout_that_breaks_and_spares_one_that_plays_on(game, heldout):
    judge = stability.appoint_judge(game, *([*heldout.cut([i], 160)] for i in (0, 1)), opening_frames=4)
    amount = {"rollouts": 2, "length": 160, "settings": imagine.Settings(steps=2, batch=2)}
    sound, frozen = (
        drift.measure_drift(world, judge, heldout, **amount, rng=np.random.default_rng(0))
        for world in (RealWorld(), FrozenWorld())
    )
    assert (sound["drift_160_rollouts"], sound["drift_160_collapsed"], sound["drift_160_frozen_64"]) == (2, 0, 0)
    assert sound["drift_160_first_collapse_step"] == 160
    assert frozen["drift_160_collapsed"] == frozen["drift_160_collapsed_frozen"] == frozen["drift_160_frozen_64"] == 2
    assert frozen["drift_160_first_collapse_step"] == 0


def test_why_the_features_of_drifted_frames_were_not_compared_is_told(game, heldout):
    judge = stability.appoint_judge(game, *([*heldout.cut([i], 160)] for i in (0, 1)), opening_frames=4)
    settings, size = imagine.Settings(steps=2, batch=2), Size(windows=4, window_steps=16, traces=1)
    for instruments, told in ((("features",), {"refused_end_features"}), (("rewards",), set())):
        extent = measure.Extent(instruments=instruments, size=size, drifts=((2, 160),))
        figures = measure.Battery(RealWorld(), game, heldout, judge, Ledger(), settings, extent, seed=0).figures()
        assert figures["drift_160_collapsed"] == 0 and told == {key for key in figures if "end_features" in key}
    figures |= {"refused_end_features": "too few", "drift_160_end_fd_share": None}
    verdicts = {gate.key: gate.verdict for gate in judge_figures(figures)}
    assert (verdicts["drift_1000_end_fd_share"], verdicts["drift_160_end_fd_share"]) == ("refused", "fail")


def test_a_run_that_was_ended_is_taken_up_and_gives_the_same_report(game, tmp_path):
    extent = measure.Extent(
        instruments=("control", "onset"), size=Size(branches=6, steps=8), step_choices=(1, 2),
        step_size=Size(branches=4, steps=4), step_instruments=("control",), drifts=((2, 160),),
    )  # fmt: skip
    plan = evaluate.Plan(
        episodes=6, windows=6, horizons=(1, 4), trials=8, rollouts=2, rollout_steps=160, real_rollouts=1, battery=extent
    )
    numbers = {"split": "validation", "seed": 0, "steps": 2, "progress": False}
    whole = evaluate.evaluate(RealWorld(), game, plan, **numbers, ledger=Ledger(tmp_path, {"seed": 0}))
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"gains.json", "branches.json", "steps_1.json", "drift_160.json"} <= kept
    for name in ("stability.json", "steps_2.json", "drift_160.json"):
        (tmp_path / name).unlink()
    assert evaluate.evaluate(RealWorld(), game, plan, **numbers, ledger=Ledger(tmp_path, {"seed": 0})) == whole
    assert evaluate.evaluate(RealWorld(), game, plan, **numbers) == whole
    assert whole["control_c"] == whole["steps_1_control_c"] == 1.0
    assert "control_c 1.000 (wanted 0.9 to 1.1)" in evaluate.table(whole)
