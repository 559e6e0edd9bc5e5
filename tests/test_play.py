"""The command `worldsim play`: in a window without a screen, without a window, and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from player_kit import tap
from tiny import NAMES, save_tiny_world

from worldsim.cli import main
from worldsim_envs.env import WorldEnv

pygame = pytest.importorskip("pygame")

from worldsim import play  # noqa: E402
from worldsim.player import menu  # noqa: E402
from worldsim.player.screen import Window  # noqa: E402
from worldsim.replay import Replay  # noqa: E402


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture
def quits(monkeypatch, tmp_path):
    """Quits after a number of frames; the list that it returns fills with (caption, status) of each."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)
    shown, usual = [], Window.show

    def after(frames, key="escape"):
        def show_then_quit(self, frame, status, figures):
            usual(self, frame, status, figures)
            shown.append((pygame.display.get_caption()[0], status))
            if len(shown) == frames and key == "close":
                pygame.event.post(pygame.event.Event(pygame.QUIT))
            elif len(shown) == frames:
                tap(key)

        monkeypatch.setattr(Window, "show", show_then_quit)
        return shown

    return after


@pytest.mark.parametrize("key", ["escape", "close"])
def test_the_command_plays_in_a_window_until_the_player_quits(world, quits, key):
    shown = quits(3, key)
    assert main(["play", world, "--seed", "11", "--steps", "1", "--fps", "100", "--scale", "2"]) == 0
    assert len(shown) >= 3 and {(told.seed, told.steps) for _, told in shown} == {(11, 1)}
    assert shown[0][0] == "worldsim: Tiny"
    assert not pygame.display.get_init()


def test_a_recorded_session_replays_to_the_byte(world, quits, tmp_path, capsys):
    quits(8)
    clip = tmp_path / "round.gif"
    assert main(["play", world, "--fps", "100", "--record", str(clip)]) == 0
    with Image.open(clip) as image:
        assert image.n_frames == Replay.load(clip.with_suffix(".replay.json")).frames() + 1 > 8
    assert main(["replay", str(clip.with_suffix(".replay.json")), "--check"]) == 0


@pytest.mark.parametrize("how", [["--fps", "100"], ["--headless", "--keys", "up"]])
def test_a_recording_that_cannot_be_written_is_one_line_before_the_game_begins(world, quits, tmp_path, capsys, how):
    quits(3)
    (tmp_path / "file").write_text("")
    clip = tmp_path / "file" / "round.gif"
    assert main(["play", world, *how, "--record", str(clip)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"cannot write '{clip}'" in error and "give a file in a folder of your own" in error


def test_headless_plays_a_script_and_prints_the_score(world, capsys):
    assert main(["play", world, "--headless", "--keys", "up&fire*2, rest, d*0001,space", "--seed", "5"]) == 2
    assert "unknown key 'd'" in capsys.readouterr().err
    assert main(["play", world, "--headless", "--keys", "up&fire*2, rest, space", "--seed", "5"]) == 0
    env = WorldEnv(world)
    env.reset(seed=5)
    score = sum(env.step(NAMES.index(name))[1] for name in ("UPFIRE", "UPFIRE", "NOOP", "FIRE"))
    assert capsys.readouterr().out == f"seed 5: 4 frames, score {score:+g}\n"


def test_compiled_play_without_a_compiler_goes_on_as_usual(world, capsys, no_compiler):
    with pytest.warns(UserWarning, match="playing without"):
        assert main(["play", world, "--headless", "--keys", "up*2", "--seed", "5", "--compile"]) == 0
    assert capsys.readouterr().out.startswith("seed 5: 2 frames")


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_headless_writes_a_clip(world, tmp_path, capsys, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    clip = tmp_path / f"short{suffix}"
    assert main(["play", world, "--headless", "--keys", "left*5,up", "--record", str(clip)]) == 0
    assert clip.stat().st_size > 1000 and capsys.readouterr().out.endswith(f"clip: {clip}\n")
    assert main(["replay", str(clip.with_suffix(".replay.json")), "--check"]) == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--headless"], "--headless and --keys go together"),
        (["--keys", "up"], "--headless and --keys go together"),
        (["--headless", "--keys", "fly*2"], "unknown key 'fly'"),
        (["--headless", "--keys", "up", "--start=-1"], "start '-1' is none; give a number 0..2, or a dataset"),
        (["--headless", "--keys", "up", "--start", "nowhere:test/0"], "start 'nowhere:test/0' is none; give a number"),
        (["--headless", "--keys", "up*two"], "'up*two' asks for two frames"),
        (["--headless", "--keys", "up,,down"], "unknown key ''"),
        (["--headless", "--keys", "up", "--record", "clip.avi"], "ends in .mp4, .gif or .webp"),
        (["--headless", "--keys", "up", "--real", "--compile"], "--compile are for imagined worlds"),
        (["--headless", "--keys", "up", "--real", "--steps", "2"], "--steps, --device and --compile are for imagined"),
        (
            ["--headless", "--keys", "up", "--agent", "a.zip", "--fps", "9"],
            "without a window; leave out --agent, --fps",
        ),
        (["--headless", "--keys", "up", "--keys-file", "mine.toml"], "without a window; leave out --keys-file"),
    ],
)
def test_a_bad_script_is_one_line(world, capsys, arguments, words):
    assert main(["play", world, *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and words in errors[0]


@pytest.fixture
def two_worlds(tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return [str(save_tiny_world(tmp_path / name, name=name, seed=seed)) for seed, name in enumerate(("one", "two"))]


def choosing(monkeypatch, worlds, *events):
    """What the menu answers to these events, which come once it is drawn, and the picture it drew first."""
    shots = []
    draw = menu._draw

    def draw_then_post(*arguments):
        draw(*arguments)
        if not shots:
            for kind, values in events:
                pygame.event.post(pygame.event.Event(kind, values))
        shots.append(pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1))

    monkeypatch.setattr(menu, "_draw", draw_then_post)
    return menu.choose(worlds), shots[0]


def key(code):
    return pygame.KEYDOWN, {"key": code}


def test_the_menu_is_walked_with_arrows_and_shows_each_worlds_start(two_worlds, monkeypatch):
    right, enter = key(pygame.K_RIGHT), key(pygame.K_RETURN)
    chosen, shot = choosing(monkeypatch, two_worlds, right, right, key(pygame.K_LEFT), right, enter)
    assert chosen == two_worlds[1]
    for index, world in enumerate(two_worlds):
        first = WorldEnv(world).model.starts.frames[0, 0]
        card = menu.Shelf(2, 2).card(index)
        seen = shot[card.top : card.bottom, card.left : card.right]
        corner = first.repeat(3, axis=0).repeat(3, axis=1)
        top, left = 14 + (menu.PICTURE - 144) // 2, (card.width - 192) // 2
        assert np.array_equal(seen[top : top + 144, left : left + 192], corner)


def test_up_and_down_keep_to_their_column_and_stay_at_the_edge():
    shelf = menu.Shelf(6, 4)
    moved = {key: [shelf.moved(index, key) for index in range(6)] for key in menu.MOVES}
    assert moved[pygame.K_UP] == [0, 1, 2, 3, 0, 1] and moved[pygame.K_DOWN] == [4, 5, 5, 5, 4, 5]
    assert moved[pygame.K_LEFT] == [0, 0, 1, 2, 3, 4] and moved[pygame.K_RIGHT] == [1, 2, 3, 4, 5, 5]


def test_the_wheel_over_a_card_of_the_menu_chooses_nothing(two_worlds, monkeypatch):
    at = menu.Shelf(2, 2).card(1).center
    wheel = [(pygame.MOUSEBUTTONDOWN, {"pos": at, "button": button}) for button in (4, 5, 3)]
    assert choosing(monkeypatch, two_worlds, *wheel, key(pygame.K_RETURN))[0] == two_worlds[0]


def test_the_menu_takes_a_click_and_can_be_left(two_worlds, monkeypatch):
    click = (pygame.MOUSEBUTTONDOWN, {"pos": menu.Shelf(2, 2).card(1).center, "button": 1})
    assert choosing(monkeypatch, two_worlds, click)[0] == two_worlds[1]
    for leave in (key(pygame.K_ESCAPE), (pygame.QUIT, {})):
        assert choosing(monkeypatch, two_worlds, leave)[0] is None


@pytest.mark.parametrize("screen", [(800, 600), (1024, 600), (640, 480)])
def test_the_menu_fits_a_small_screen_and_its_cards_take_clicks(two_worlds, monkeypatch, screen):
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [screen])
    shelf = menu.Shelf.for_screen(5, screen)
    click = (pygame.MOUSEBUTTONDOWN, {"pos": shelf.card(4).center, "button": 1})
    chosen, shot = choosing(monkeypatch, [two_worlds[0]] * 4 + [two_worlds[1]], click)
    assert chosen == two_worlds[1] and shot.shape[:2] == shelf.size[::-1]
    assert shelf.size[0] < screen[0] and shelf.size[1] < screen[1]
    cards, window = [shelf.card(index) for index in range(5)], pygame.Rect(0, 0, *shelf.size)
    assert all(window.contains(card) for card in cards) and cards[0].collidelist(cards[1:]) == -1


def test_a_large_screen_shows_four_full_cards_in_a_row():
    assert menu.Shelf.for_screen(5, (1920, 1080)) == menu.Shelf(5, columns=4, unit=1.0)


def test_the_menus_letters_can_be_read_and_stay_on_their_card_where_all_else_is_small():
    pygame.font.init()
    canvas, text, white = menu.Canvas(pygame.Surface((200, 100)), 0.5), "64x64, 15 frames a second", (255, 255, 255)
    bottom = menu._write(canvas, text, 16, white, pygame.Rect(10, 20, 90, 80))
    assert bottom == 20 + pygame.font.Font(None, menu.LETTERS).render(text, True, white).get_height()
    columns = pygame.surfarray.array3d(canvas.surface).any(axis=(1, 2))
    assert columns[10:100].any() and not columns[100:].any()


def test_without_arguments_several_worlds_make_a_menu_and_one_starts_at_once(two_worlds, quits, monkeypatch):
    monkeypatch.setattr(play, "list_worlds", lambda: two_worlds)
    draw = menu._draw
    monkeypatch.setattr(menu, "_draw", lambda *given: (draw(*given), tap("right"), tap("return")))
    shown = quits(2)
    assert main(["play", "--fps", "100"]) == 0
    assert shown[0][0] == "worldsim: Two"
    shown.clear()
    monkeypatch.setattr(play, "list_worlds", lambda: two_worlds[:1])
    assert main(["play", "--fps", "100"]) == 0
    assert shown[0][0] == "worldsim: One"


def test_a_damaged_world_on_the_menu_is_one_line(two_worlds, tmp_path):
    (tmp_path / "two" / "starts.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="two' is damaged"):
        menu.choose(two_worlds)


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


def test_without_a_display_what_was_asked_for_is_filmed_or_refused(world, monkeypatch, capsys, tmp_path):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(play._command("record"), "run", lambda args: seen.append(args) or 0)
    assert main(["play", world, "--seed", "3", "--agent", "mine.py", "--real", "--game", "my:Game"]) == 0
    (asked,) = seen
    assert (asked.agent, asked.real, asked.game, asked.seed) == ("mine.py", True, "my:Game", 3)
    capsys.readouterr()
    assert main(["play", world, "--episodes", "kept", "--start", "2"]) == 2 and len(seen) == 1
    assert "no display for --episodes and --start" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere"], "unknown world 'nowhere'"),
        (["WORLD", "--steps", "3"], "1, 2, 4"),
        (["WORLD", "--device", "gpu"], "device 'gpu'"),
        (["WORLD", "--record", "clip.txt"], "ends in .mp4, .gif or .webp"),
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


def test_without_pygame_a_window_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.delitem(sys.modules, "worldsim.window")
    assert main(["play", "boxing"]) == 2
    assert capsys.readouterr().err == 'worldsim: a window needs pygame: pip install "worldsim[play]"\n'


def test_without_pygame_the_command_still_plays_headless():
    code = "import sys; sys.modules['pygame'] = None; import worldsim.play, worldsim.player.headless"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_mp4_without_pyav_names_the_extra_before_the_game_begins(world, monkeypatch, capsys):
    monkeypatch.setattr("worldsim.player.clip.find_spec", lambda name: None)
    assert main(["play", world, "--headless", "--keys", "up", "--record", "clip.mp4"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "worldsim[video]" in said.err


def test_headless_begins_at_a_start_of_the_worlds_own_and_keeps_the_episode(world, tmp_path, capsys):
    asked = ["play", world, "--headless", "--keys", "up*3", "--seed", "5", "--start", "2"]
    assert main([*asked, "--episodes", str(tmp_path / "mine")]) == 0
    env = WorldEnv(world)
    frames = [env.reset(seed=5, options={"start": 2})[0]] + [env.step(NAMES.index("UP"))[0] for _ in range(3)]
    with np.load(tmp_path / "mine" / "train" / "000000.npz") as stored:
        assert np.array_equal(stored["frames"], frames) and stored["actions"].tolist() == [NAMES.index("UP")] * 3
    assert main([*asked[:-1], "3"]) == 2
    assert "start 3 is none of this world's; it has 0..2" in capsys.readouterr().err


def test_the_real_game_is_played_in_a_window(quits, tmp_path):
    shown = quits(5)
    clip = tmp_path / "real.gif"
    assert main(["play", "encounter", "--real", "--fps", "100", "--record", str(clip)]) == 0
    assert shown[0][0] == "worldsim: Encounter" and all(told.real for _, told in shown)
    with Image.open(clip) as image:
        assert image.n_frames > 1


@pytest.mark.atari
def test_the_real_game_is_played_without_a_window(tmp_path, capsys):
    asked = ["play", "boxing", "--headless", "--real", "--keys", "right*9,up&fire*3", "--seed", "1"]
    clip = tmp_path / "real.gif"
    assert main([*asked, "--episodes", str(tmp_path / "mine"), "--record", str(clip)]) == 0
    assert "12 frames" in capsys.readouterr().out
    with Image.open(clip) as image:
        assert image.n_frames == 13
