"""Two threads: what they hand each other, at what pace, and how they end."""

import gc
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from player_kit import Clock, press, release, status, tap

pygame = pytest.importorskip("pygame")

from worldsim.player import loop  # noqa: E402
from worldsim.player.controls import COMMANDS, STATES, Keys  # noqa: E402
from worldsim.player.loop import Desk, Meter, Picture  # noqa: E402
from worldsim.player.undisturbed import undisturbed  # noqa: E402

FRAME = np.zeros((48, 64, 3), np.uint8)


def test_looks_between_two_frames_add_up_and_do_not_queue():
    desk = Desk()
    for name in ("up", "down"):
        desk.give(Keys(held=frozenset({"left"}), tapped=frozenset({name}), commands=(name,)))
    taken = desk.take()
    assert taken.active == {"left", "up", "down"} and taken.commands == ("up", "down")
    assert desk.take() == Keys(held=frozenset({"left"}))


def test_a_picture_not_shown_in_time_gives_way_to_the_next():
    desk = Desk()
    assert desk.news(0) is None
    desk.put(FRAME, status(step=1))
    desk.put(FRAME, status(step=2))
    assert desk.news(0).status.step == 2
    assert desk.news(0) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("new", "new", "new"), ("new",)),
        (("load", "load"), ("load",)),
        (("1", "4", "2"), ("2",)),
        (("2", "new", "4", "4"), ("2", "new", "4")),
        (("new", "load", "new"), ("new", "load", "new")),
        (("pause", "pause", "slot", "slot"), ("pause", "pause", "slot", "slot")),
        (("save", "slot", "save"), ("save", "slot", "save")),
    ],
)
def test_a_wish_that_names_a_state_counts_once_however_often_it_waits_for_a_turn(given, kept):
    desk, at_once = Desk(), Desk()
    for command in given:
        desk.give(Keys(commands=(command,)))
    at_once.give(Keys(commands=given))
    assert desk.take().commands == at_once.take().commands == kept
    desk.give(Keys(commands=given))
    assert desk.take().commands == kept


def test_every_command_that_names_a_state_is_one():
    assert set(COMMANDS.values()) >= STATES


def test_a_key_that_changes_is_told_until_it_is_taken():
    desk = Desk()
    for keys, told in (
        (Keys(), False),
        (Keys(commands=("pause",)), False),
        (Keys(held=frozenset({"up"})), True),
        (Keys(held=frozenset({"up"})), False),
        (Keys(tapped=frozenset({"left"})), True),
        (Keys(stick=(0.5, 0.0)), True),
        (Keys(stick=(0.5, 0.0), pointer=(("steer", 0.5),)), True),
    ):
        desk.give(keys)
        assert desk.pressed.is_set() == told
        desk.take()
        assert not desk.pressed.is_set()


def test_a_picture_is_not_shown_before_its_time_unless_it_answers_a_key(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=clock.now, sleep=clock.sleep))
    desk, shown, looks = Desk(), [], []
    window = SimpleNamespace(
        poll=lambda: looks.append(clock.now()) or Keys(), show=lambda *_: shown.append(clock.now())
    )
    for due_at in (0.0, 0.03, 0.02):
        desk.put(FRAME, status(), due_at)
        loop.look(desk, window, Meter(), 0)
    assert shown == pytest.approx([0.0, 0.03, 0.03])
    assert np.diff(looks).max() <= loop.LOOK_S + 1e-9  # while the picture waits, keys do not
    desk.give(Keys(tapped=frozenset({"up"})))
    desk.take()
    desk.put(FRAME, status(), 0.05)
    loop.look(desk, window, Meter(), 0)
    assert shown[-1] == pytest.approx(0.03)


def test_pictures_come_back_to_their_times_step_by_step_after_one_that_did_not_wait(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=clock.now, sleep=clock.sleep))
    desk, meter, shown = Desk(), Meter(), []
    window = SimpleNamespace(poll=Keys, show=lambda *_: shown.append(clock.now()))
    for frame in range(4):
        clock.time_s = frame / 10
        desk.put(FRAME, status(game_fps=10.0), frame / 10 + 0.015 * (frame > 0))
        loop.look(desk, window, meter, 0)
    assert shown == pytest.approx([0.0, 0.11, 0.215, 0.315])


def test_latency_runs_from_the_first_look_at_a_key_to_the_screen():
    clock = Clock()
    desk, meter = Desk(clock.now), Meter()

    def at(time_s, held):
        clock.time_s = time_s
        desk.give(Keys(held=frozenset(held)))

    at(1.00, {"up"})
    at(1.03, {"up", "left"})
    desk.take()
    at(1.05, {"up"})
    desk.put(FRAME, status())
    picture = desk.news(0)
    assert picture.pressed_at == 1.00
    meter.shown(picture, 1.07)
    assert meter.measured().latency_ms == pytest.approx((70, 70))
    desk.take()
    desk.put(FRAME, status())
    assert desk.news(0).pressed_at == 1.05
    desk.take()
    desk.put(FRAME, status())
    assert desk.news(0).pressed_at is None


def test_latency_runs_from_the_key_itself_where_the_window_knows_its_time():
    clock = Clock()
    desk, meter = Desk(clock.now), Meter()
    clock.time_s = 1.003
    desk.give(Keys(held=frozenset({"up"}), changed_at=1.0))
    clock.time_s = 1.006
    desk.give(Keys(held=frozenset(), changed_at=1.005))
    desk.take()
    desk.put(FRAME, status())
    meter.shown(desk.news(0), 1.04)
    assert meter.measured().latency_ms == pytest.approx((40, 40))


def test_late_frames_are_counted_against_the_speed_that_the_game_says_it_holds():
    meter, now, late = Meter(), 0.0, []
    for gap_s in [1 / 12] * 9 + [1.3 / 12]:
        late.append(meter.shown(Picture(FRAME, status(game_fps=12.0), None), now))
        now += gap_s
    late.append(meter.shown(Picture(FRAME, status(game_fps=12.0), None), now))
    assert late == [None] + [False] * 9 + [True]
    figures = meter.measured()
    assert figures.late == pytest.approx(0.1)
    assert figures.shown_fps == pytest.approx(10 / now)
    assert meter.shown(Picture(FRAME, status(mode="pause"), None), now + 9) is None
    assert meter.shown(Picture(FRAME, status(), None), now + 18) is None
    assert meter.measured().late == pytest.approx(0.1)


class Script:
    """A window that lets a test act after each frame shown, and notes which thread does what."""

    def __init__(self, window, after):
        self._window, self._after = window, after
        self.shown, self.threads = [], set()

    def poll(self):
        self.threads.add(threading.get_ident())
        return self._window.poll()

    def show(self, frame, status, figures):
        self._window.show(frame, status, figures)
        self.shown.append((frame, status))
        self._after(len(self.shown))


def test_the_frame_just_painted_is_the_one_shown(env, window, make_game):
    painted, painters = [], set()
    paint = env.paint

    def watched(action):
        painters.add(threading.get_ident())
        painted.append(paint(action))
        return painted[-1].copy()

    env.paint = watched
    script = Script(window, lambda count: tap("escape" if count == 12 else "up"))
    game = make_game(env)
    painted.clear()
    painters.clear()
    game.pacer.retime(60)
    loop.run(game, script)
    for frame, told in script.shown:
        assert np.array_equal(frame, painted[told.step])
    assert len(painters) == 1 and painters.isdisjoint(script.threads)


def test_a_key_changes_the_next_painted_frame(env, window, make_game):
    actions = []
    paint = env.paint
    env.paint = lambda action: (actions.append(action), paint(action))[1]
    press_at = {}

    def after(count):
        if count == 3:
            press_at["painted"] = len(actions)
            press("up")
        elif count == 8:
            release("up")
            tap("escape")

    game = make_game(env)
    actions.clear()
    game.pacer.retime(20)
    figures = loop.run(game, Script(window, after))
    first = press_at["painted"]
    assert actions[:first] == [0] * first and set(actions[first:]) == {2}
    assert figures.latency_ms[0] > 0


def test_the_game_is_told_of_every_frame_whether_it_came_late_to_the_screen(env, window, make_game):
    game, told = make_game(env), []
    shown = game.pacer.shown
    game.pacer.shown = lambda late: (told.append(late), shown(late))
    game.pacer.retime(60)
    meter = Meter()
    loop.run(game, Script(window, lambda count: tap("escape") if count == 10 else None), meter)
    assert len(told) == meter.counted > 5 and sum(told) == round(meter.measured().late * meter.counted)


def test_games_run_undisturbed_and_leave_the_process_as_it_was():
    before = sys.getswitchinterval(), gc.get_freeze_count()
    with pytest.raises(KeyError), undisturbed():
        assert gc.get_freeze_count() > 1000 and sys.getswitchinterval() < before[0]
        raise KeyError
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == before


def test_an_error_while_painting_ends_the_run_is_raised_and_loses_no_recording(env, window, make_game, tmp_path):
    game, paint = make_game(env, record=tmp_path / "round.gif"), env.paint

    def broken(action):
        if len(game.session.timeline) == 4:
            raise ValueError("no such action")
        return paint(action)

    env.paint = broken
    with pytest.raises(ValueError, match="no such action"):
        loop.run(game, Script(window, lambda count: None))
    assert "worldsim-painter" not in {thread.name for thread in threading.enumerate()}
    assert (tmp_path / "round.gif").is_file() and (tmp_path / "round.replay.json").is_file()


def test_a_slow_model_answers_the_last_keys_and_queues_nothing(env, window, make_game):
    paint, actions = env.paint, []

    def slow(action):
        actions.append(action)
        time.sleep(0.05)
        return paint(action)

    env.paint = slow

    def after(count):
        if count == 3:
            for _ in range(20):
                tap("up")
        elif count == 7:
            tap("escape")

    game = make_game(env)
    actions.clear()
    game.pacer.retime(100)
    loop.run(game, Script(window, after))
    assert actions.count(2) == 1
    assert game.pacer.period_s > 0.015
