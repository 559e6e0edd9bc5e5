"""The player's own keys: what a file changes, and what it may not hold."""

import numpy as np
import pytest
from player_kit import press, status, tap
from tiny import tiny_actions

pygame = pytest.importorskip("pygame")

from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim.cli import main  # noqa: E402
from worldsim.player import controls, keymap  # noqa: E402
from worldsim.player.controls import COMMANDS  # noqa: E402
from worldsim.player.loop import Figures  # noqa: E402
from worldsim.player.screen import Window  # noqa: E402

CAR = ActionSpec([Channel("steer", "axis"), Channel("gas", "axis"), Channel("horn")], keys={"horn": ("h",)})


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "keys.toml").write_text(text)
        return tmp_path / "keys.toml"

    return write


def test_a_file_gives_keys_to_channels_and_commands_and_the_rest_stays(written, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    keys = keymap.load(
        written('[play]\nfire = ["P", "j"]\n[commands]\npause = ["left"]\nrepaint = ["f2"]'), tiny_actions()
    )
    assert keys.actions.keys["fire"] == ("p", "j") and keys.actions.keys["left"] == ()
    assert keys.actions.keys["up"] == tiny_actions().keys["up"]
    window = Window("Tiny", (48, 64), tiny_actions(), scale=4, keymap=keys)
    press("j", "up")
    tap("left", "f2", "tab", "n")
    seen = window.poll()
    assert seen.commands == ("pause", "repaint", "new") and seen.held == {"j", "up"}
    assert controls.vector(keys.actions, seen)[[0, 4]].tolist() == [1, 1]
    rows = {meaning: shown for shown, meaning in controls.command_rows(keys.actions, keys.commands)}
    assert rows["pause"] == "Left" and rows["repaint the last seconds"] == "F2" and rows["quit"] == "Esc"
    window.close()


def test_a_key_is_heard_by_any_name_that_pygame_knows_it_by(written, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    keys = keymap.load(
        written('[play]\nfire = ["keypad 0", "pageup"]\n[commands]\npause = ["capslock"]'), tiny_actions()
    )
    assert keys.actions.keys["fire"] == ("[0]", "page up")
    window = Window("Tiny", (48, 64), tiny_actions(), scale=4, keymap=keys)
    press("keypad 0", "pageup")
    tap("capslock")
    seen = window.poll()
    assert seen.held == {"[0]", "page up"} and seen.commands == ("pause",)
    window.close()
    with pytest.raises(ValueError, match="given to fire and to pause"):
        keymap.load(written('[play]\nfire = ["pageup"]\n[commands]\npause = ["page up"]'), tiny_actions())


def test_own_keys_leave_the_worlds_conditions(written):
    moody = ActionSpec([Channel("npc_shy"), Channel("npc_bold")], conditions={"npc": ("shy", "bold")})
    assert keymap.load(written('[commands]\npause = ["f3"]'), moody).actions.conditions == moody.conditions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[play]\nfier = ['j']", "did you mean 'fire'?"),
        ("[commands]\npaus = ['j']", "did you mean 'pause'?"),
        ("[comands]\npause = ['j']", "did you mean 'commands'?"),
        ("[play]\nfire = 'j'", "give a list of key names"),
        ("[play]\nfire = ['no such key']", "unknown key name 'no such key'"),
        ("[play]\nfire = ['j']\n[commands]\npause = ['j']", "'j' is given to fire and to pause"),
        ("[play]\nfire = ['backspace']", "which rewinds"),
        ("[mouse]\nz = 'steer'", "unknown name 'z' in mouse"),
        ("[mouse]\nx = 'up'", "unknown name 'up' in mouse.x"),
        ("play = 3", "write [play]"),
        ("[play", "is not toml"),
    ],
)
def test_a_wrong_file_is_one_line(written, text, words):
    with pytest.raises(ValueError) as raised:
        keymap.load(written(text), tiny_actions())
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_tells_of_a_missing_file(world, monkeypatch, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main(["play", world, "--keys-file", "nowhere.toml"]) == 2
    assert "No such file or directory: 'nowhere.toml'" in capsys.readouterr().err


def test_the_users_own_file_may_speak_of_other_worlds(tmp_path, monkeypatch):
    monkeypatch.setattr(keymap, "usual_file", lambda: tmp_path / "keys.toml")
    assert keymap.load(None, tiny_actions()) == keymap.KeyMap(tiny_actions(), COMMANDS)
    (tmp_path / "keys.toml").write_text("[play]\nfire = ['j']\nhorn = ['u']\n[mouse]\nx = 'steer'")
    assert keymap.load(None, tiny_actions()).actions.keys["fire"] == ("j",)
    assert keymap.load(None, CAR).actions.keys == {"horn": ("u",)}


def test_the_own_file_lies_where_the_system_keeps_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keymap.usual_file({}, "linux") == tmp_path / ".config" / "worldsim" / "keys.toml"
    assert keymap.usual_file({"XDG_CONFIG_HOME": "/c"}, "linux").as_posix() == "/c/worldsim/keys.toml"
    assert keymap.usual_file({"APPDATA": "/a"}, "win32").as_posix() == "/a/worldsim/keys.toml"


def mouse(kind, at, **values):
    pygame.event.post(pygame.event.Event(kind, pos=at, **values))


@pytest.mark.parametrize(("swapped", "wanted"), [(False, [0.5, -0.5, 0]), (True, [-0.5, 0.5, 0])])
def test_the_pointer_drives_axes_while_the_left_button_is_held(written, monkeypatch, swapped, wanted):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    keys = keymap.load(written("[mouse]\nx = 'gas'\ny = 'steer'" if swapped else ""), CAR)
    window = Window("Car", (48, 64), CAR, scale=4, keymap=keys)
    window.show(np.zeros((48, 64, 3), np.uint8), status(), Figures())
    picture = window._picture
    at = picture.centerx + picture.width // 4, picture.centery - picture.height // 4
    mouse(pygame.MOUSEMOTION, at, buttons=(0, 0, 0))
    assert not controls.vector(CAR, window.poll()).any()
    mouse(pygame.MOUSEBUTTONDOWN, at, button=1)
    assert controls.vector(CAR, window.poll()).tolist() == pytest.approx(wanted, abs=0.02)
    mouse(pygame.MOUSEMOTION, (picture.right + 900, picture.centery), buttons=(1, 0, 0))
    assert np.abs(controls.vector(CAR, window.poll())).max() == 1.0
    mouse(pygame.MOUSEBUTTONUP, at, button=1)
    assert not controls.vector(CAR, window.poll()).any()
    window.close()
