"""The evaluation, tried on worlds whose faults are known: the real game itself and broken copies of it."""

import argparse
import json
import shlex
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import save_tiny_world, tiny_encounter, tiny_world
from toy_game import HEIGHT, WIDTH, ToyGame, advance
from toy_worlds import FrozenWorld, RealWorld

from worldsim.heads import OutcomeHead
from worldsim.world_info import Starts, WorldInfo
from worldsim.world_model import WorldModel
from worldsim_envs.games.encounter import Encounter
from worldsim_training import control, evaluate, evaluation, imagine
from worldsim_training.battery.verdicts import REFUSED, judge
from worldsim_training.collect import record_episode
from worldsim_training.episodes import Episode
from worldsim_training.heldout import HeldOut, Moment, record_heldout
from worldsim_training.report import __main__ as report_command

PLAN = evaluate.Plan(
    episodes=6, windows=13, horizons=(1, 4, 16), trials=20, rollouts=3, rollout_steps=160, real_rollouts=1, batch=8
)


pytestmark = pytest.mark.usefixtures("one_thread")


class DeafWorld(RealWorld):
    def follow(self, state, vector):
        return advance(state, (0, 0, 0, 1))


class SwappedWorld(RealWorld):
    def follow(self, state, vector):
        up, down, left, right = vector
        return advance(state, (down, up, right, left))


class GreyWorld(RealWorld):
    def paint(self, state):
        return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def judged(world, **plan):
    settings = {"split": "validation", "seed": 0, "steps": 2, "progress": False}
    return evaluate.evaluate(world, ToyGame(), evaluate.Plan(**{**vars(PLAN), **plan}), **settings)


@pytest.fixture(scope="module")
def real():
    return judged(RealWorld())


def test_the_real_game_judged_as_a_world_is_perfect(real):
    assert real["psnr_1_db"] == real["psnr_16_db"] == pytest.approx(68.13, abs=0.01)
    assert real["gain_1_db"] == real["psnr_1_db"] - real["floor_1_db"] > 20
    assert real["gain_16_db"] == real["psnr_16_db"] - real["floor_16_db"] > 20
    assert real["sign_test_share"] == real["sign_test_real_score"] == 1.0
    assert (real["collapsed"], real["rollouts"]) == (0, 3)
    for name in ("motion", "sharpness", "saturation"):
        assert real[f"end_{name}_ratio"] == 1.0
    assert (real["end_colour_emd"], real["end_rollouts"]) == (0.0, 3)


def test_the_report_is_flat_json_and_says_what_was_measured(real):
    assert {type(value) for value in real.values()} <= {float, int, str}
    assert json.loads(json.dumps(real)) == real
    said = {key: real[key] for key in ("windows", "episodes", "context_frames", "steps", "split", "seed")}
    assert said == {"windows": 13, "episodes": 6, "context_frames": 4, "steps": 2, "split": "validation", "seed": 0}
    assert all(real[f"gain_{h}_db_low"] <= real[f"gain_{h}_db"] <= real[f"gain_{h}_db_high"] for h in (1, 4, 16))
    assert not any(key.startswith("reroll") for key in real) and "luck" not in evaluate.table(real)
    shown = evaluate.table(real)
    assert (
        "1 ahead" in shown and "0 of 3" in shown and "end of 3 rollouts" in shown and "of which the world" not in shown
    )
    assert "motion 1.00 [1.00, 1.00], sharpness 1.00" in shown
    over = evaluate.table(real | {"collapsed": 2, "rollouts_ended": 2, "collapsed_shown": 1})
    assert "2 of 3 (frozen 0" in over and "); 1 before an end, of which the world said 2" in over
    assert "end of" not in evaluate.table({key: value for key, value in real.items() if key != "end_rollouts"})


def test_the_same_seed_gives_the_same_report_and_another_split_another(real):
    assert judged(RealWorld()) == real
    other = evaluate.evaluate(RealWorld(), ToyGame(), PLAN, split="test", seed=0, steps=2, progress=False)
    assert other["floor_16_db"] != real["floor_16_db"]


def test_a_still_world_gains_nothing_moves_nowhere_and_is_frozen():
    report = judged(FrozenWorld())
    assert [report[f"gain_{h}_db"] for h in (1, 4, 16)] == [0.0, 0.0, 0.0]
    assert report["sign_test_share"] == 0.0
    assert report["collapsed"] == report["collapsed_frozen"] == report["rollouts"] == 3


def test_a_world_that_ignores_the_player_fails_the_sign_test():
    assert judged(DeafWorld())["sign_test_share"] == 0.0


def test_a_world_with_swapped_directions_fails_the_sign_test_and_does_not_collapse():
    report = judged(SwappedWorld())
    assert (report["sign_test_share"], report["collapsed"]) == (0.0, 0)


def test_a_world_without_sprites_is_unseen_and_collapses():
    report = judged(GreyWorld())
    assert report["sign_test_unseen"] == report["sign_test_states"] == 20
    assert report["sign_test_share"] == 0.0
    assert report["collapsed"] == report["collapsed_vanished"] == 3


class CrossedGame(ToyGame):
    """The toy game with its directions the wrong way round."""

    def step(self, action):
        return super().step((0, 2, 1, 4, 3)[int(action)])


class UnreadGame(ToyGame):
    """The toy game of somebody who reads no player off its frames."""

    player_xy = staticmethod(lambda frame: None)


@pytest.mark.parametrize(
    ("game", "why"),
    [
        (CrossedGame, "sign test refused: the real game scores 0.00 by it, below"),
        (UnreadGame, "reads no player off its frames; the sign test needs Game.player_xy"),
    ],
)
def test_a_real_game_that_fails_the_sign_test_refuses_it_and_all_else_is_measured(game, why):
    report = evaluate.evaluate(RealWorld(), game(), PLAN, split="test", seed=0, steps=2, progress=False)
    assert why in report["refused_sign_test"] and "sign_test_share" not in report
    assert np.isfinite(report["gain_1_db"]) and report["windows"] > 0
    shown = evaluate.table(report)
    assert "share of the real game's own score" not in shown and "no sign_test: " in shown
    assert {gate.key: gate.verdict for gate in judge(report)}["sign_test_share"] == REFUSED


def test_a_figure_without_a_meaning_is_shown_with_its_reason_not_as_a_number():
    lines = evaluate._battery_lines({"control_c": None, "onset_error": 0.05})
    assert lines[1:] == [
        "  control_c: it has no meaning on what this world showed (wanted 0.9 to 1.1) FAILS",
        "  onset_error 0.050 (wanted 0 to 0.1)",
    ]


def test_held_out_episodes_are_those_of_the_recorder_and_their_states_resume_them():
    game = ToyGame()
    heldout = record_heldout(game, split="test", seed=3, episodes=2, max_steps=340, save_every=8)
    expected = record_episode(ToyGame(), "random", (3, 2, 1), 340)
    np.testing.assert_array_equal(heldout.episodes[1].frames, expected.frames)
    for frame in (0, 8, 13, 80):
        heldout.resume(game, Moment(1, frame))
        np.testing.assert_array_equal(game.step(expected.actions[frame])[0], expected.frames[frame + 1])
    for frame in (0, 8, 80):
        np.testing.assert_array_equal(game.restore(heldout.saved[1][frame]), expected.frames[frame])
        after, _, _ = game.step(expected.actions[frame])
        np.testing.assert_array_equal(after, expected.frames[frame + 1])


def test_windows_join_context_and_future_and_keep_off_the_end():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=3, max_steps=340, save_every=50)
    moments = heldout.moments(30, past=4, future=16, rng=np.random.default_rng(0))
    assert len(set(moments)) == 30 and [m.episode for m in moments[:4]] == [0, 1, 2, 0]
    assert all(3 <= m.frame <= 340 - 8 - 16 for m in moments)
    past, past_actions = heldout.context([Moment(1, 20)], 4)
    future, actions = heldout.future([Moment(1, 20)], 16)
    episode = heldout.episodes[1]
    np.testing.assert_array_equal(np.concatenate([past, future], axis=1)[0], episode.frames[17:37])
    np.testing.assert_array_equal(np.concatenate([past_actions, actions], axis=1)[0], episode.actions[17:36])


def test_episodes_too_short_for_the_windows_are_named():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=2, max_steps=340, save_every=50)
    message = "2 held-out episodes of 340 to 340 steps have 0 windows of 4 frames and 400 steps; needed: 2"
    with pytest.raises(ValueError, match=message):
        heldout.moments(2, past=4, future=400, rng=np.random.default_rng(0))


def test_more_episodes_are_recorded_until_they_hold_enough_steps():
    amount = {"split": "validation", "seed": 0, "episodes": 2, "max_steps": 100, "save_every": 50}
    few, more = (record_heldout(ToyGame(), **amount, least_steps=steps) for steps in (200, 201))
    assert (len(few.episodes), len(more.episodes), len(more.policies)) == (2, 3, 3)
    np.testing.assert_array_equal(few.episodes[1].frames, more.episodes[1].frames)


@pytest.mark.parametrize("names", ["ab", "abc", "abcd", "abcdef"])
def test_every_policy_is_in_every_third_of_the_episodes(names):
    heldout = HeldOut([None] * 24, [names[i % len(names)] for i in range(24)], [])
    thirds = heldout.thirds()
    assert sorted(i for third in thirds for i in third) == [*range(24)]
    assert all(len(third) == 8 and {heldout.policies[i] for i in third} == {*names} for third in thirds)


def test_without_a_sound_collapse_test_all_else_is_measured_and_the_refusal_told(monkeypatch):
    def refuse(judge, rollouts, rng, *, wiser):
        raise ValueError("collapse test refused: it is Thursday")

    monkeypatch.setattr(evaluation.stability, "check_judge", refuse)
    report = judged(RealWorld())
    assert report["refused_collapse"] == "collapse test refused: it is Thursday"
    assert "collapsed" not in report and report["sign_test_share"] == 1.0
    (gate,) = (each for each in judge(report) if each.key == "collapsed")
    assert gate.verdict == REFUSED and gate.why == report["refused_collapse"]
    assert "no collapse: collapse test refused: it is Thursday" in evaluate.table(report)


def test_a_world_of_encounter_is_judged_and_its_mush_collapses():
    plan = replace(PLAN, episodes=15, episode_steps=160, windows=12, horizons=(1, 16), rollouts=2, real_rollouts=4)
    settings = {"split": "validation", "seed": 0, "steps": 1, "progress": False}
    report = evaluate.evaluate(tiny_encounter(), Encounter(), plan, **settings)
    assert "refused_collapse" not in report
    assert (report["collapse_check_real_rollouts"], report["collapse_check_mutants"]) == (3, 16)
    assert report["collapsed"] == report["rollouts"] == 2  # though it says ends at once
    assert (report["collapsed_shown"], report["rollouts_ended"]) == (0, 2)


def test_a_short_episode_gives_the_windows_that_it_has():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=3, max_steps=340, save_every=50)
    heldout = cut_off(heldout, {1: 60})
    room = heldout.room(7, past=4)
    for future, counts in ((room, {0: 3, 1: 2, 2: 2}), (room + 1, {0: 3, 1: 1, 2: 3})):
        moments = heldout.moments(7, past=4, future=future, rng=np.random.default_rng(0))
        assert Counter(moment.episode for moment in moments) == counts and len({*moments}) == 7


def test_rollouts_are_as_long_as_the_games_own_and_not_shorter_than_can_be_judged():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=6, max_steps=340, save_every=50)
    assert evaluation.fitted(PLAN, heldout) == PLAN  # 160 steps
    heldout = cut_off(heldout, dict(enumerate((150, 160, 170, 140, 145, 150))))
    assert evaluation.fitted(PLAN, heldout) == replace(PLAN, rollout_steps=141)
    with pytest.raises(ValueError, match="real rollouts of 127 frames to judge by, 128 are needed"):
        evaluation.fitted(PLAN, cut_off(heldout, {3: 126}))


def cut_off(heldout, steps):
    """The episodes of those numbers end after so many steps."""
    episodes = list(heldout.episodes)
    for number, length in steps.items():
        each = episodes[number]
        episodes[number] = Episode(each.frames[: length + 1], each.actions[:length], each.rewards[:length], ended=True)
    return replace(heldout, episodes=episodes)


@pytest.mark.parametrize(
    ("words", "drifts"),
    [
        ("", ((24, 1000),)),
        ("--quick", ()),
        ("--quick --rollouts 300", ((300, 1000),)),
        ("--rollouts 300 --long", ((300, 1000), (24, 10_000))),
    ],
)
def test_as_many_long_rollouts_are_judged_as_asked_for(words, drifts):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(["boxing", *words.split()])
    assert evaluate._plan(args).battery.drifts == drifts
    told = evaluate._command(args).split()
    assert [word for word in words.split() if word not in told] == []  # such runs keep their parts apart by it


def test_trials_start_where_both_moves_are_free():
    game = ToyGame()
    heldout = record_heldout(game, split="validation", seed=0, episodes=6, max_steps=340, save_every=4)
    trials = control.choose_trials(game, heldout, 30, past=4, rng=np.random.default_rng(0))
    assert {trial.commands[:2] for trial in trials} == {("left", "right"), ("up", "down")}
    assert control.scores(control.real_displacements(game, heldout, trials)).all()
    for trial in trials:
        frame = heldout.episodes[trial.moment.episode].frames[trial.moment.frame]
        player, opponent = np.array(game.player_xy(frame)), np.array(game.opponent_xy(frame))
        assert np.abs(player - opponent).max() >= 16


def arguments(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_a_world_of_another_size_than_its_game_is_refused_in_one_line(tmp_path, capsys):
    folder = save_tiny_world(tmp_path / "tiny")
    assert evaluate.main([str(folder), "--quick"]) == 2
    assert capsys.readouterr().err == "evaluate: world tiny paints 64x48; boxing shows 64x64\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "unknown world 'nowhere'"),
        (["{tiny}", "--seed", "-1"], "seed is -1; use 0 or more"),
        (["{tiny}", "--device", "toaster"], "device 'toaster' cannot be used here; use 'cpu', or 'cuda' with a GPU"),
        (["{tiny}", "--json", "{folder}"], "is a folder; give the name of a file"),
        (["{tiny}", "--report", "{folder}"], "is a folder; give the name of a file, such as {folder}/eval.html"),
    ],
)
def test_bad_arguments_end_before_any_work(words, message, tmp_path, capsys):
    folder = save_tiny_world(tmp_path / "tiny")
    assert evaluate.main([word.format(tiny=folder, folder=tmp_path) for word in words]) == 2
    assert message.format(folder=tmp_path) in capsys.readouterr().err


def test_a_report_without_its_plots_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert evaluate.main(["nowhere", "--report", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == 'evaluate: a report needs matplotlib: pip install "worldsim[eval]"\n'


def test_an_untrained_step_count_is_refused():
    with pytest.raises(ValueError, match=r"steps=3 is not a trained step count; use one of \(1, 2, 4\)"):
        evaluate.evaluate(RealWorld(), ToyGame(), PLAN, split="test", seed=0, steps=3, progress=False)


def save_boxing_world(folder):
    """A tiny random world with the frame size and actions of Boxing."""
    from worldsim_envs.games.boxing import ACTIONS

    denoiser, heads = tiny_world(height=64, width=64).denoiser, OutcomeHead(64, 64, width_conv=8)
    starts = Starts(np.zeros((1, 4, 64, 64, 3), np.uint8), np.zeros((1, 3), np.int64))
    info = WorldInfo("tiny", "ALE/Boxing-v5", 64, 64, 15, 4, max_episode_steps=500, shift=2.0)
    WorldModel(info, ACTIONS, denoiser, heads, starts).save_pretrained(folder)
    return folder


def test_a_missing_game_package_is_named_with_its_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert evaluate.main([str(save_boxing_world(tmp_path / "world"))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and 'pip install "worldsim[atari]"' in error


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("ALE/Boxing-v5", "toy_game:ToyGame is an adapter of Toy-v0; this world imagines ALE/Boxing-v5"),
        ("Toy-v0", "world tiny paints 64x64; toy shows 64x48"),
    ],
)
def test_the_adapter_that_the_user_names_is_the_one_held_against_the_world(tmp_path, capsys, env_id, message):
    world = WorldModel.from_pretrained(save_boxing_world(tmp_path / "world"))
    world.info = replace(world.info, env_id=env_id)
    world.save_pretrained(tmp_path / "mine")
    assert evaluate.main([str(tmp_path / "mine"), "--game", "toy_game:ToyGame"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_parts_are_kept_apart_by_the_source_that_measured_them(tmp_path, monkeypatch):
    source = shutil.copytree(evaluate.PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    args, told = arguments("nowhere", "--parts", tmp_path / "parts"), {"command": "", "quick": False, "threads": 1}

    def part(value):
        return evaluate._ledger(args, told, evaluate.FULL).part("gains", lambda: {"gain": value})["gain"]

    assert (part(1), part(2)) == (1, 1)
    monkeypatch.setattr(evaluate, "PACKAGE", source)
    assert part(3) == 1  # the same source in another place
    for value, name in enumerate(("collapse.py", "battery/bars.py"), 4):
        (source / name).write_text((source / name).read_text() + "\n")
        assert part(value) == value


def test_batches_come_back_in_order_and_nearly_equal():
    def work(part, settings):
        settings.progress(1)
        time.sleep(0.05 * (part.start == 0))  # the first is the last to be done
        return part.stop - part.start

    done = []
    settings = imagine.Settings(steps=1, batch=4, workers=3, progress=done.append)
    assert imagine.in_batches(10, settings, work) == [3, 4, 3]
    assert done == [1, 1, 1]


def test_an_error_in_one_batch_ends_the_others_and_leaves_the_thread_count():
    def work(part, settings):
        if part.start == 0:
            raise FloatingPointError("this batch broke")
        for _ in range(1000):  # ten seconds, unless it is stopped
            settings.progress(1)
            time.sleep(0.01)

    before, started = torch.get_num_threads(), time.perf_counter()
    with pytest.raises(FloatingPointError, match="this batch broke"):
        imagine.in_batches(4, imagine.Settings(steps=1, batch=2, workers=2), work)
    assert time.perf_counter() - started < 5
    assert torch.get_num_threads() == before


@pytest.mark.atari
def test_the_command_measures_a_world_of_boxing(tmp_path, monkeypatch, capsys):
    amount = {"episodes": 3, "episode_steps": 480, "windows": 3, "trials": 6, "rollouts": 2, "rollout_steps": 160}
    plan = evaluate.Plan(**amount, horizons=(1, 4, 16), real_rollouts=1)
    world, file = save_boxing_world(tmp_path / "my world"), tmp_path / "out" / "eval.json"
    monkeypatch.setattr(evaluate, "QUICK", replace(plan, drift_frames=(0, 5)))
    assert evaluate.run(arguments(world, "--quick", "--json", file, "--report", file.with_suffix(".html"))) == 0
    report = json.loads(file.read_text())
    words = ["worldsim", "eval", str(world), *"--split validation --seed 0 --device cpu --quick".split()]
    assert shlex.split(report["command"]) == words
    assert report["device_name"] and report["system"] and len(report["heldout_sha256"]) == 64
    page = file.with_suffix(".html").read_text()
    assert page.count("data:image/png") == 4 * 7 + 18 * 6 + 2 * 2  # film, an action each, drift
    assert report_command.main([str(file), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == page
    assert {"gain_1_db", "gain_16_db", "sign_test_share", "collapsed", "rollouts"} <= set(report)
    assert report["rollouts"] == 2 and report["version_ale-py"] and len(report["world_manifest_sha256"]) == 64
    assert report["sign_test_real_score"] >= 0.75
    assert report["reroll_states"] == report["windows"] and report["reroll_branches"] == plan.branches
    assert report["reroll_1_db"] > report["reroll_16_db"] and report["reroll_mean_16_db"] > report["reroll_16_db"]
    shown = capsys.readouterr().out
    assert "sign test" in shown
    assert f"real game, other luck {report['reroll_16_db']:+.2f}, mean of 8 {report['reroll_mean_16_db']:+.2f}" in shown
