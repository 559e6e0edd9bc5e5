"""The player's window under the dummy driver: posted keys in, pixels out."""

import numpy as np
import pytest
from player_kit import picture, press, release, status, tap
from tiny import NAMES, tiny_actions

pygame = pytest.importorskip("pygame")

from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim.player import controls, hud  # noqa: E402
from worldsim.player.controls import COMMANDS, HELP, Keys  # noqa: E402
from worldsim.player.loop import Figures  # noqa: E402
from worldsim.player.screen import Window  # noqa: E402
from worldsim.window import keep_on_screen  # noqa: E402

BLACK = np.zeros((48, 64, 3), np.uint8)


def shot(window, figures=None, **changed):
    window.poll()
    window.show(BLACK, status(**changed), figures or Figures())
    return pygame.surfarray.array3d(pygame.display.get_surface())


@pytest.mark.parametrize("name", NAMES)
def test_every_action_of_the_game_can_be_held(window, name):
    spec = tiny_actions()
    native = NAMES.index(name)
    pressed = [spec.channels[i].name for i in np.flatnonzero(spec.table[native])]
    press(*(spec.keys[channel][0] for channel in pressed))
    assert spec.decode(controls.vector(spec, window.poll())) == native
    assert spec.decode(controls.vector(spec, window.poll())) == native
    release(*(spec.keys[channel][0] for channel in pressed))
    assert spec.decode(controls.vector(spec, window.poll())) == 0


def test_a_tap_shorter_than_a_look_is_seen_once(window):
    tap("space")
    tap("space")
    assert window.poll() == Keys(tapped=frozenset({"space"}))
    assert window.poll() == Keys()


def test_commands_come_in_the_order_given(window):
    tap("tab", "4", ".", "n", "z", "f5", "escape")
    assert window.poll().commands == ("pause", "4", "single", "new", "save", "quit")
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.poll().commands == ("quit",)


def test_escape_leaves_the_repaint_before_the_game_and_the_window_can_be_closed_meanwhile(window):
    commands = []
    for mode in ("play", "repaint", "repaint", "play"):
        window.show(BLACK, status(mode=mode), Figures())
        tap("escape")
        commands += window.poll().commands
    assert commands == ["quit", "leave", "leave", "quit"]
    window.show(BLACK, status(mode="repaint"), Figures())
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.poll().commands == ("quit",)


def test_losing_the_focus_lets_all_keys_go(window):
    press("up")
    assert window.poll().held == {"up"}
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    assert window.poll().held == set()


def pad(kind, **values):
    pygame.event.post(pygame.event.Event(kind, instance_id=0, **values))


def test_a_gamepad_plays(window):
    spec = tiny_actions()
    pad(pygame.JOYAXISMOTION, axis=0, value=-0.9)
    pad(pygame.JOYBUTTONDOWN, button=0)
    assert NAMES[spec.decode(controls.vector(spec, window.poll()))] == "LEFTFIRE"
    pad(pygame.JOYBUTTONUP, button=0)
    pad(pygame.JOYAXISMOTION, axis=0, value=0.1)
    pad(pygame.JOYHATMOTION, hat=0, value=(0, 1))
    assert NAMES[spec.decode(controls.vector(spec, window.poll()))] == "UP"


def test_a_stick_drives_axes_by_how_far_it_is_pushed(window):
    spec = ActionSpec([Channel("steer", "axis"), Channel("gas")], keys={"steer+": ("right",), "gas": ("up",)})
    pad(pygame.JOYAXISMOTION, axis=0, value=-0.5)
    pad(pygame.JOYBUTTONDOWN, button=0)
    assert controls.vector(spec, window.poll()).tolist() == [-0.5, 1.0]
    press("right")
    assert controls.vector(spec, window.poll()).tolist() == [1.0, 1.0]
    release("right")
    pad(pygame.JOYAXISMOTION, axis=0, value=0.1)
    assert controls.vector(spec, window.poll()).tolist() == [0.0, 1.0]


def test_a_button_tap_shorter_than_a_look_is_seen(window):
    pad(pygame.JOYBUTTONDOWN, button=0)
    pad(pygame.JOYBUTTONUP, button=0)
    assert window.poll().active == {"pad 0"}
    assert window.poll().active == set()


def test_an_unplugged_gamepad_lets_go_and_is_one_line(window):
    pad(pygame.JOYAXISMOTION, axis=1, value=1.0)
    pad(pygame.JOYBUTTONDOWN, button=0)
    before = shot(window)
    pad(pygame.JOYDEVICEREMOVED)
    assert window.poll() == Keys()
    assert not np.array_equal(shot(window), before)


@pytest.mark.parametrize("mode", ["play", "pause", "over", "rewind", "repaint"])
@pytest.mark.parametrize("toggles", ["", "f"])
def test_the_picture_is_sharp_and_nothing_covers_it(window, mode, toggles):
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    tap(*toggles)
    window.poll()
    window.show(frame, status(mode=mode), Figures())
    shown = picture(window)
    scale = min(shown.shape[0] // 48, shown.shape[1] // 64)
    assert scale >= 4
    sharp = frame.repeat(scale, axis=0).repeat(scale, axis=1)
    top, left = ((outer - inner) // 2 for outer, inner in zip(shown.shape, sharp.shape, strict=True) if outer != 3)
    assert np.array_equal(shown[top : top + sharp.shape[0], left : left + sharp.shape[1]], sharp)


def test_the_panel_shows_figures_and_goes_away(window):
    shots = [shot(window), shot(window, score=4.0), shot(window, held=frozenset({"up"})), shot(window, mode="over")]
    shots += [shot(window, recording=True), shot(window, note="saved"), shot(window, Figures(latency_ms=(20.0, 30.0)))]
    tap("f")
    shots.append(shot(window))
    assert len({each.tobytes() for each in shots}) == len(shots)
    tap("f")
    assert np.array_equal(shot(window), shots[0])


@pytest.mark.parametrize(("width", "whole"), [(300, True), (363, True), (364, False)])
def test_the_panel_gives_way_to_the_picture_in_a_narrow_window(window, width, whole):
    pygame.display.set_mode((width, 200), pygame.RESIZABLE)
    frame = np.full((48, 64, 3), 255, np.uint8)
    window.show(frame, status(), Figures())
    field, panel, _ = window._layout()
    assert (field.width == width) == whole and field.width >= 64
    shown = picture(window)
    assert (shown == 255).all(axis=2).sum() == 48 * 64 * (min(field.width // 64, field.height // 48)) ** 2
    assert panel.left >= field.right


def test_the_panel_says_that_the_real_game_is_no_network(monkeypatch, window):
    written = {}
    monkeypatch.setattr(hud.Canvas, "text", spied(hud.Canvas.text, written))
    shot(window, real=True)
    assert "the real game" in written and "SCORE" in written
    assert not {"painted by a neural network", "network alone", "drift", "steps a frame", "memory"} & written.keys()
    written.clear()
    shot(window)
    assert {"painted by a neural network", "network alone", "drift", "steps a frame", "memory"} <= written.keys()


def test_help_comes_over_the_picture_and_leaves_nothing_behind(window):
    before = shot(window)
    tap("h")
    assert not np.array_equal(shot(window), before)
    tap("h")
    assert np.array_equal(shot(window), before)


def test_the_help_names_every_command_and_every_action(window):
    told = " ".join(key.lower() for key, _ in HELP).replace("esc", "escape").split()
    assert set(told) == {*COMMANDS, controls.REWIND}
    assert {meaning for _, meaning in controls.help_rows(tiny_actions())} == set(tiny_actions().keys)


def test_the_help_of_the_real_game_names_no_command_that_it_refuses():
    keys = " ".join(key for key, _ in controls.command_rows(tiny_actions(), real=True)).split()
    assert keys == ["Tab", ".", "-", "Backspace", "N", "R", "M", "F", "H", "Esc"]


def test_a_key_that_plays_commands_nothing_and_the_help_says_so(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    spec = ActionSpec([Channel("next"), Channel("two")], keys={"next": ("n",), "two": ("2",)})
    window = Window("Tiny", (48, 64), spec)
    tap("n", "2", "r")
    seen = window.poll()
    assert seen.tapped == {"n", "2"} and seen.commands == ("record",)
    rows = dict(controls.command_rows(spec))
    assert "N" not in rows and rows["1  4"] == "network calls a frame"
    moody = ActionSpec([Channel("npc_shy"), Channel("npc_bold")], conditions={"npc": ("shy", "bold")})
    assert controls.command_rows(moody) == list(HELP)
    assert controls.command_rows(tiny_actions()) == [row for row in HELP if row[0] != "V"]
    window.close()


MANY = ActionSpec(
    [Channel(name) for name in ("left", "right", "wave", "bow", "give", "threaten", "strike", "guard", "npc_a")],
    keys={"left": ("left", "a"), **{name: (name[0],) for name in ("wave", "give", "threaten")}}
    | {"right": ("right", "d"), "bow": ("down", "s"), "strike": ("space",), "guard": ("c", "left shift")},
    conditions={"npc": ("a",)},
)
"""Actions of a world with many keys, as Encounter."""


@pytest.mark.parametrize("spec", [tiny_actions(), MANY], ids=["few", "many"])
@pytest.mark.parametrize("size", [None, (812, 576), (640, 360), (320, 240), (1920, 1000), (200, 900)])
@pytest.mark.parametrize("scale", [1, 4, 18])
def test_the_help_is_whole_at_every_size(monkeypatch, scale, size, spec):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = Window("Tiny", (48, 64), spec, scale=scale)
    if size:
        pygame.display.set_mode(size, pygame.RESIZABLE)
    before = shot(window)
    written = {}
    monkeypatch.setattr(hud.Canvas, "text", spied(hud.Canvas.text, written))
    tap("f", "h")
    drawn = np.argwhere((shot(window, mode="play") != before).any(axis=2))
    assert drawn.size
    room = pygame.Rect(0, 0, window._canvas.surface.get_width(), window._layout()[2].top)
    assert all(room.contains(rect) for _, rect in written.values())
    rows = [*controls.help_rows(spec), *controls.command_rows(spec)]
    assert {"PLAY", "AND MORE"} <= written.keys()
    assert [meaning for _, meaning in rows if meaning not in written] == []
    rects = [rect for _, rect in written.values()]
    assert all(rect.collidelist(rects[:i]) < 0 for i, rect in enumerate(rects))
    window.close()


def spied(write, written):
    def text(canvas, told, size, colour, at, **options):
        if told:
            written[told] = (size, canvas.label(told, size, colour).get_rect(topleft=at))
        return write(canvas, told, size, colour, at, **options)

    return text


def test_the_help_has_two_columns_of_full_letters_where_one_does_not_fit(monkeypatch, window):
    written = {}
    monkeypatch.setattr(hud.Canvas, "text", spied(hud.Canvas.text, written))
    rows = [(f"K{i}", f"play {i}") for i in range(8)]
    commands = [(f"C{i}", f"command {i}") for i in range(19)]

    def columns(height):
        written.clear()
        hud.draw_help(window._canvas, pygame.Rect(0, 0, 500, height), rows, commands)
        return len({rect.left for told, (_, rect) in written.items() if told[0] in "KC"}), written["play 0"][0] == 17

    assert [columns(height) for height in (700, 540, 330)] == [(1, True), (2, True), (2, True)]
    assert columns(200) == (2, False)


@pytest.mark.parametrize("mode", ["pause", "over", "rewind", "repaint", "help"])
@pytest.mark.parametrize("width", [300, 600, 1200])
def test_a_note_leaves_the_state_readable(window, mode, width):
    canvas, told = window._canvas, status(mode=mode)
    state, way_on = hud.state_words(told)
    line = hud.words(canvas, told, "saved " + "x" * 30, width)
    assert line.startswith(state) and "saved x" in line and canvas.font(18).size(line)[0] <= width
    assert width < 1200 or way_on in line
    assert hud.words(canvas, told, "", 1200) == state + way_on


def test_closing_the_panes_gives_back_the_size_that_the_player_had_chosen(monkeypatch, window):
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(1920, 1080)])

    def size(panes, chosen=None):
        if chosen:
            pygame.display.set_mode(chosen, pygame.RESIZABLE)
        wide = np.zeros((48, 64 * panes + 2 * (panes - 1), 3), np.uint8)
        window.show(wide, status(captions=("it",) * panes if panes > 1 else ()), Figures())
        return pygame.display.get_surface().get_size()

    size(1, (800, 500))
    assert size(3)[0] > 1200 and size(3)[1] == 500
    assert size(2)[1] == 500 and size(1) == (800, 500)
    size(2)
    assert size(2, (1300, 700)) == (1300, 700) and size(1) == (1300, 700)
    assert size(2)[1] == 700 and size(1) == (1300, 700)


def test_captions_stay_as_sharp_as_when_they_were_first_written(window):
    wide = np.zeros((48, 130, 3), np.uint8)
    told = {"captions": ("real +1", "imagined")}
    shots = []
    for step in (1, 2, 3, 1):
        window.show(wide, status(step=step, **told), Figures())
        shots.append(pygame.surfarray.array3d(pygame.display.get_surface()))
    assert np.array_equal(shots[0], shots[-1]) and not np.array_equal(shots[0], shots[1])
    window.show(wide, status(captions=("real +2", "imagined")), Figures())
    window.show(wide, status(step=1, **told), Figures())
    assert np.array_equal(shots[0], pygame.surfarray.array3d(pygame.display.get_surface()))


@pytest.mark.parametrize(("x", "width", "moved"), [(500, 1500, (210, 40)), (300, 2000, (0, 40)), (300, 800, None)])
def test_a_window_that_grows_beyond_the_screen_moves_back_onto_it(monkeypatch, x, width, moved):
    places = []
    monkeypatch.setattr(pygame.display, "get_window_position", lambda: (x, 40))
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(1920, 1080)])
    monkeypatch.setattr(pygame.display, "set_window_position", places.append)
    keep_on_screen(width)
    assert places == ([] if moved is None else [moved])


def test_a_window_on_another_screen_stays_there(monkeypatch):
    monkeypatch.setattr(pygame.display, "get_window_position", lambda: (2000, 40))
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(1920, 1080), (1920, 1080)])
    monkeypatch.setattr(pygame.display, "set_window_position", pytest.fail)
    keep_on_screen(1500)


def test_a_long_note_keeps_its_ends():
    pygame.font.init()
    canvas = hud.Canvas(pygame.Surface((10, 10)), 1.0)
    long = "saved " + "x" * 200 + ".mp4"
    short = canvas.fitted(long, 18, 300)
    assert canvas.font(18).size(short)[0] <= 300
    assert short.startswith("saved x") and short.endswith("x.mp4")
    assert canvas.fitted("saved", 18, 300) == "saved"
