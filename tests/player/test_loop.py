"""Two threads: what they hand each other, at what pace, and how they end."""

import threading
import time

import numpy as np
import pytest
from player_kit import press, release, status, tap

pygame = pytest.importorskip("pygame")

from worldsim.player import loop  # noqa: E402
from worldsim.player.controls import Keys  # noqa: E402
from worldsim.player.loop import Desk, Meter, Picture  # noqa: E402
from worldsim.player.pacer import Pacer  # noqa: E402

FRAME = np.zeros((48, 64, 3), np.uint8)


class Clock:
    """Time that only sleeping and working move."""

    def __init__(self):
        self.time_s = 0.0

    def now(self):
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds


def turn_times(clock, pacer, works):
    times = []
    for work_s in works:
        pacer.wait()
        times.append(clock.time_s)
        clock.time_s += work_s
        pacer.worked(work_s)
    return np.diff(times)


def test_a_fast_model_plays_at_full_speed():
    clock = Clock()
    pacer = Pacer(20, now=clock.now, sleep=clock.sleep)
    assert np.allclose(turn_times(clock, pacer, [0.01, 0.03] * 20), 0.05)


def test_a_slow_model_slows_the_game_without_catching_up():
    clock = Clock()
    pacer = Pacer(20, now=clock.now, sleep=clock.sleep)
    turn_times(clock, pacer, [0.01] * 20)
    slow = turn_times(clock, pacer, [0.1] * 60)
    assert np.allclose(slow[20:], 0.1)
    recovered = turn_times(clock, pacer, [0.01] * 80)
    assert (recovered > 0.0499).all() and np.allclose(recovered[-20:], 0.05, atol=1e-3)
    assert np.abs(np.diff(recovered)).max() < 0.02


def test_one_slow_frame_delays_the_rest_and_changes_no_speed():
    clock = Clock()
    pacer = Pacer(20, now=clock.now, sleep=clock.sleep)
    times = turn_times(clock, pacer, [0.01] * 20 + [0.5] + [0.01] * 20)
    assert times[20] == pytest.approx(0.5)
    assert np.allclose(np.delete(times, 20), 0.05)


def test_slow_motion_begins_at_once():
    clock = Clock()
    pacer = Pacer(20, now=clock.now, sleep=clock.sleep)
    turn_times(clock, pacer, [0.01] * 20)
    pacer.retime(5)
    assert np.allclose(turn_times(clock, pacer, [0.01] * 10)[1:], 0.2)


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


def test_late_frames_are_counted_against_full_speed():
    meter, now = Meter(), 0.0
    for gap_s in [1 / 15] * 9 + [1.3 / 15]:
        meter.shown(Picture(FRAME, status(), None), now)
        now += gap_s
    meter.shown(Picture(FRAME, status(), None), now)
    figures = meter.measured()
    assert figures.late == pytest.approx(0.1)
    assert figures.shown_fps == pytest.approx(10 / now)
    meter.shown(Picture(FRAME, status(mode="pause"), None), now + 9)
    meter.shown(Picture(FRAME, status(), None), now + 18)
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
    assert 0 < figures.latency_ms[0] < 100


def test_an_error_while_painting_ends_the_run_and_is_raised(env, window, make_game):
    game = make_game(env)

    def broken(action):
        raise ValueError("no such action")

    env.paint = broken
    with pytest.raises(ValueError, match="no such action"):
        loop.run(game, Script(window, lambda count: None))
    assert "worldsim-painter" not in {thread.name for thread in threading.enumerate()}


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
