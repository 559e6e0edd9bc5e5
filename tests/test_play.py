"""The player: a real window without a screen, posted keys, a small real world."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from tiny import NAMES, save_tiny_world, tiny_actions

from worldsim.cli import main
from worldsim_envs.env import WorldEnv

pygame = pytest.importorskip("pygame")

from worldsim import play  # noqa: E402
from worldsim.window import Keys, Status, Window  # noqa: E402

FPS = 1000  # tests do not wait
KEY_NAMES = ("up", "down", "left", "right", "space")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture
def window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = Window("Tiny", (48, 64), KEY_NAMES, scale=4)
    pygame.event.clear()
    yield window
    window.close()


@pytest.fixture
def env(world):
    return gym.make(play.WORLD, world=world).unwrapped


@pytest.fixture
def player(env, window):
    return play.Player(env, window, fps=FPS, seed=7)


def press(*names):
    for name in names:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name)))


def release(*names):
    for name in names:
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.key.key_code(name)))


def tap(*names):
    press(*names)
    release(*names)


def status(**changed):
    usual = {"mode": "play", "score": 3.0, "step": 12, "steps": 2, "seed": 7, "held": frozenset()}
    return Status(**{**usual, "game_fps": 15.0, "full_fps": 15.0, **changed})


def picture(window):
    """The game's part of the screen, (H, W, 3), found by the window's own layout."""
    field, _, _ = window._layout()
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    return screen[field.top : field.bottom, field.left : field.right]


@pytest.mark.parametrize("name", NAMES)
def test_every_action_of_the_game_can_be_held(window, name):
    spec = tiny_actions()
    native = NAMES.index(name)
    pressed = [spec.channels[i].name for i in np.flatnonzero(spec.table[native])]
    press(*(spec.keys[channel][0] for channel in pressed))
    assert spec.decode(spec.from_keys(window.poll().held)) == native
    assert spec.decode(spec.from_keys(window.poll().held)) == native
    release(*(spec.keys[channel][0] for channel in pressed))
    window.poll()
    assert spec.decode(spec.from_keys(window.poll().held)) == 0


def test_a_tap_shorter_than_a_frame_counts_for_one_frame(window):
    tap("space")
    tap("space")
    assert window.poll() == Keys(frozenset({"space"}))
    assert window.poll() == Keys()


def test_commands_come_in_the_order_given(window):
    tap("p", "4", "n", "r", "z", "escape")
    assert window.poll().commands == ("pause", "4", "single", "reset", "quit")
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.poll().commands == ("quit",)


def test_losing_the_focus_lets_all_keys_go(window):
    press("up")
    assert window.poll().held == {"up"}
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    assert window.poll().held == set()


@pytest.mark.parametrize("mode", ["play", "pause", "over"])
@pytest.mark.parametrize("toggles", ["", "h", "f"])
def test_the_picture_is_sharp_and_nothing_covers_it(window, mode, toggles):
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    tap(*toggles)
    window.poll()
    window.show(frame, status(mode=mode))
    shown = picture(window)
    scale = min(shown.shape[0] // 48, shown.shape[1] // 64)
    assert scale >= 4
    sharp = frame.repeat(scale, axis=0).repeat(scale, axis=1)
    top, left = ((outer - inner) // 2 for outer, inner in zip(shown.shape, sharp.shape, strict=True) if outer != 3)
    assert np.array_equal(shown[top : top + sharp.shape[0], left : left + sharp.shape[1]], sharp)


def test_the_panel_shows_figures_and_goes_away(window):
    frame = np.zeros((48, 64, 3), np.uint8)

    def shot(**changed):
        window.poll()
        window.show(frame, status(**changed))
        return pygame.surfarray.array3d(pygame.display.get_surface())

    shots = [shot(), shot(score=4.0), shot(held=frozenset({"up"})), shot(latency_ms=(20.0, 30.0)), shot(mode="over")]
    tap("h")
    shots.append(shot())
    tap("f")
    shots.append(shot())
    assert len({each.tobytes() for each in shots}) == len(shots)
    tap("h")
    tap("f")
    assert np.array_equal(shot(), shots[0])


def test_held_keys_become_the_frames_that_the_env_paints(player, env, world):
    frames = [player.frame]
    for _ in range(3):
        press("up", "space")
        assert player.turn()
        frames.append(player.frame)
    alone = gym.make(play.WORLD, world=world)
    observation, _ = alone.reset(seed=7)
    assert np.array_equal(observation, frames[0])
    score = 0.0
    for frame in frames[1:]:
        observation, reward, *_ = alone.step(NAMES.index("UPFIRE"))
        score += reward
        assert np.array_equal(observation, frame)
    assert (player.step, player.score) == (3, score)


def test_pause_holds_the_world_and_n_paints_one_frame(player):
    player.turn()
    tap("p")
    player.turn()
    before = player.frame
    for _ in range(3):
        player.turn()
    assert player.frame is before and player.step == 1
    tap("n")
    player.turn()
    player.turn()
    assert player.step == 2
    tap("p")
    player.turn()
    assert player.step == 3


def test_n_while_playing_changes_nothing(player):
    tap("n")
    player.turn()
    assert (player.mode, player.step) == ("play", 1)


def test_r_starts_the_next_seeds_round(player, world):
    player.turn()
    tap("p", "r")
    tap("p")
    player.turn()
    observation, _ = gym.make(play.WORLD, world=world).reset(seed=8)
    assert np.array_equal(player.frame, observation)
    assert (player.seed, player.step, player.score, player.mode) == (8, 0, 0.0, "pause")


def test_digits_choose_the_denoising_steps(player, env):
    for digit in "142":
        tap(digit)
        player.turn()
        assert env.steps == int(digit)


def test_a_round_that_is_over_waits_for_r(window, world):
    player = play.Player(WorldEnv(world, max_episode_steps=2), window, fps=FPS, seed=7)
    for _ in range(4):
        player.turn()
    assert (player.mode, player.step) == ("over", 2)
    tap("p")
    player.turn()
    assert player.mode == "over"
    tap("r")
    player.turn()
    assert (player.mode, player.step) == ("play", 1)


@pytest.mark.parametrize("quit_event", ["escape", "q", "close"])
def test_quitting_ends_the_run(player, quit_event):
    if quit_event == "close":
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    else:
        tap(quit_event)
    player.run()
    assert player.step == 0


def test_figures_are_measured_while_playing(player, monkeypatch):
    monkeypatch.setattr(play, "REFRESH_S", 0)
    for _ in range(5):
        player.turn()
    measured = player._status(frozenset())
    assert measured.model_fps > 0 and 0 < measured.latency_ms[0] <= measured.latency_ms[1]
    assert 0 < measured.game_fps <= measured.full_fps == FPS


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
    pacer = play.Pacer(20, now=clock.now, sleep=clock.sleep)
    assert np.allclose(turn_times(clock, pacer, [0.01, 0.03] * 20), 0.05)


def test_a_slow_model_slows_the_game_without_catching_up():
    clock = Clock()
    pacer = play.Pacer(20, now=clock.now, sleep=clock.sleep)
    turn_times(clock, pacer, [0.01] * 20)
    slow = turn_times(clock, pacer, [0.1] * 60)
    assert np.allclose(slow[20:], 0.1)
    recovered = turn_times(clock, pacer, [0.01] * 80)
    assert (recovered > 0.0499).all() and np.allclose(recovered[-20:], 0.05, atol=1e-3)
    assert np.abs(np.diff(recovered)).max() < 0.02


def test_one_slow_frame_delays_the_rest_and_changes_no_speed():
    clock = Clock()
    pacer = play.Pacer(20, now=clock.now, sleep=clock.sleep)
    times = turn_times(clock, pacer, [0.01] * 20 + [0.5] + [0.01] * 20)
    assert times[20] == pytest.approx(0.5)
    assert np.allclose(np.delete(times, 20), 0.05)


def test_the_command_plays_in_a_window(world, monkeypatch, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = []

    def show_then_quit(self, frame, status, show=Window.show):
        show(self, frame, status)
        shown.append((pygame.display.get_caption()[0], status.seed, status.steps))
        if len(shown) == 3:
            tap("q")

    monkeypatch.setattr(Window, "show", show_then_quit)
    assert main(["play", world, "--seed", "11", "--steps", "1", "--fps", "200", "--scale", "2"]) == 0
    assert len(shown) == 3 and {each[1:] for each in shown} == {(11, 1)}
    assert shown[0][0].startswith("worldsim: ")
    assert not pygame.display.get_init()


def test_without_a_display_it_says_so_and_records(world, monkeypatch, capsys, tmp_path):
    pytest.importorskip("av")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(play, "CLIP_SECONDS", 1)
    monkeypatch.chdir(tmp_path)
    assert main(["play", world, "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert "no display" in said.err.splitlines()[0]
    paths = [tmp_path / line.split()[-1] for line in said.out.splitlines()]
    assert [path.suffix for path in paths] == [".mp4", ".png"]
    assert all(path.parent.name == "worldsim_clips" and path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere"], "unknown world 'nowhere'"),
        (["WORLD", "--steps", "3"], "1, 2, 4"),
        (["WORLD", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_a_bad_request_is_one_line(world, monkeypatch, capsys, arguments, words):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main(["play", *(world if word == "WORLD" else word for word in arguments)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading")]
    assert len(errors) == 1 and words in errors[0]


@pytest.mark.parametrize("option", [("--fps", "0"), ("--fps", "inf"), ("--scale", "0"), ("--seed", "-1")])
def test_an_impossible_number_is_refused(capsys, option):
    with pytest.raises(SystemExit):
        main(["play", "boxing", "=".join(option)])
    assert f"argument {option[0]}: {option[1]} is not a" in capsys.readouterr().err


def test_without_pygame_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.delitem(sys.modules, "worldsim.window")
    monkeypatch.delitem(sys.modules, "worldsim.play")
    assert main(["play", "boxing"]) == 2
    assert capsys.readouterr().err == 'worldsim: a window needs pygame: pip install "worldsim[play]"\n'
