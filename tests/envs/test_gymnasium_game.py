"""Adapters to gymnasium's games: the base class, the checker, and how a user's own adapter is found."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from slide_game import Slide

from worldsim.action import ActionSpec, Channel
from worldsim_envs import games
from worldsim_envs.games import GymnasiumGame, boxing, check, game_class, source_game
from worldsim_envs.games.atari import shrink_screen
from worldsim_envs.games.check import check_game
from worldsim_envs.games.gymnasium_game import shrink
from worldsim_envs.games.policies import HeldRandom


@pytest.fixture
def game():
    with Slide() as game:
        yield game


def adapter(**changed):
    """The adapter of `Slide` with some facts changed."""
    return type("Changed", (Slide,), changed)


def reference_shrink(picture, height, width):
    """Mean of each area, by repeating every pixel until the parts are whole."""
    fine = picture.astype(float).repeat(height, axis=0).repeat(width, axis=1)
    return fine.reshape(height, picture.shape[0], width, picture.shape[1], 3).mean(axis=(1, 3))


@pytest.mark.parametrize("size", [(12, 20), (5, 7), (24, 33), (1, 1)])
def test_a_frame_pixel_is_the_mean_of_its_area(size):
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    frame = shrink(picture, *size)
    assert frame.dtype == np.uint8 and frame.shape == (*size, 3)
    assert np.abs(frame - reference_shrink(picture, *size)).max() <= 0.5


def test_it_shrinks_as_boxings_own_adapter_does():
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    visible = screen[boxing.TOP : boxing.BOTTOM, boxing.LEFT : boxing.RIGHT]
    assert np.array_equal(
        shrink(visible, boxing.SIZE, boxing.SIZE), shrink_screen(screen, boxing.Boxing.crop, boxing.SIZE, boxing.SIZE)
    )


def test_a_frame_shows_the_crop_and_actions_are_the_environments(game):
    raw = gym.make("Slide-v0", render_mode="rgb_array").unwrapped
    raw.reset(seed=3)
    frame = game.reset(3)
    assert np.abs(frame - reference_shrink(raw.render()[:, 40:], 8, 16)).max() <= 0.5
    for action, native in ((2, 2), (2, 2), (1, 0), (0, 1)):
        _, reward, ended, *_ = raw.step(native)
        frame, *outcome = game.step(action)
        assert outcome == [reward, ended]
        assert np.abs(frame - reference_shrink(raw.render()[:, 40:], 8, 16)).max() <= 0.5


def test_seeds_of_both_kinds_decide_the_game(game):
    def play(seed):
        return [game.reset(seed).tobytes(), *(game.step(action)[0].tobytes() for action in (2, 0, 2))]

    sequences = [np.random.SeedSequence((0, 1, index)) for index in range(8)]
    assert play(4) == play(4)
    assert play(sequences[0]) == play(np.random.SeedSequence((0, 1, 0)))
    assert len({tuple(play(sequence)) for sequence in sequences}) > 3


def test_gymnasiums_time_limit_is_off_and_the_end_is_the_games(game):
    game.reset(0)
    assert not any(game.step(1)[2] for _ in range(12))
    while not game.step(2)[2]:
        pass
    with pytest.raises(RuntimeError, match=r"call reset\(seed\) first"):
        game.step(0)


def test_what_a_caller_does_to_a_frame_stays_its_own(game):
    state = (game.reset(0), game.save())[1]
    game.step(0)[0][:] = 0
    game.restore(state)[:] = 0
    assert game.restore(state).any()


@pytest.mark.parametrize("action", [3, -1, 0.5, "left"])
def test_an_action_that_the_game_does_not_have_is_refused(game, action):
    game.reset(0)
    with pytest.raises(ValueError, match="action"):
        game.step(action)


def test_before_a_reset_there_is_nothing_to_step_or_save(game):
    for call in (lambda: game.step(0), game.save):
        with pytest.raises(RuntimeError, match=r"call reset\(seed\) first"):
            call()


def _paid_ever_more(game, action):
    game.paid = getattr(game, "paid", 0.0) + 1.0
    return game._frame.copy(), game.paid, game.paid == 33.0


def keyed(key):
    return ActionSpec([Channel("go")], [[0], [1], [0.5]], keys={"go": [key]})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"env_actions": None, "actions": ActionSpec([Channel("go")], [[0], [1]])}, "names 2 actions for 3 of Slide"),
        ({"env_actions": (0, 1)}, "names 3 actions for 2 of Slide-v0"),
        ({"crop": (0, 0, 130, 200)}, "leaves a picture of 120x200; give .* inside it"),
        ({"crop": (50, 0, 50, 200)}, "leaves a picture of 120x200; give .* inside it"),
        ({"picture": lambda self, observation: observation}, r"picture\(\) must be uint8 \(H, W, 3\)"),
        ({"height": 12}, "is 12x16; both must be multiples of 8"),
        ({"policies": classmethod(lambda cls: {"held": HeldRandom})}, "one must be named 'random'"),
        ({"_look": lambda self, observation: np.zeros((8, 8, 3), np.uint8)}, r"a frame is uint8 \(8, 16, 3\)"),
        ({"save": lambda self: None, "restore": lambda self, state: self._frame}, "override save and restore"),
        ({"reset": lambda self, seed: Slide.reset(self, np.random.SeedSequence())}, "does not repeat itself"),
        ({"_copy": lambda self, env: self.env}, "does not go on alike from a saved state"),
        ({"env_actions": (0, 1, 3)}, r"has env_actions \[3\]; Slide-v0 takes 0..2"),
        ({"actions": ActionSpec([Channel("go")])}, r"takes Discrete\(3\); without .* a bounded Box of shape \(1,\)"),
        ({"actions": ActionSpec([Channel("go")], [[0], [1], [0]])}, r"\[0.0\] for action 2, as for another action"),
        ({"env_id": "Slid-v0"}, "slide does not start: .*Did you mean: `Slide`.*; env_id and env_module say"),
        ({"env_module": "slidegame"}, "slide does not start: No module named 'slidegame'"),
        ({"env_kwargs": {"wind": 1}}, r"does not start with env_kwargs \{'wind': 1\}: .*'wind'"),
        ({"packages": ("slidegame",)}, "slide.packages has 'slidegame', which is not installed"),
        ({"actions": keyed("lefft")}, "slide's keys of 'go': unknown key name 'lefft'; use pygame's names"),
        ({"actions": keyed("pageup")}, "slide's keys of 'go': 'pageup' is heard as 'page up'; name it so"),
        ({"actions": keyed("backspace")}, "slide's keys of 'go': 'backspace' takes frames back; give another"),
        ({"fps": 0}, "has fps 0; it must be at least 1"),
        ({"max_episode_steps": 0}, "has max_episode_steps 0; it must be at least 1"),
        ({"reward": lambda self, reward: float("nan")}, "a reward that is no finite number"),
        ({"step": _paid_ever_more}, r"gave 33 different rewards in 33 steps; .*: round them in reward\(\)"),
    ],
)
def test_the_checker_says_what_is_wrong_with_an_adapter(changed, message):
    with pytest.raises(ValueError, match=message):
        check_game(adapter(**changed))


def test_a_box_of_other_bounds_is_stretched_onto_the_channels():
    class Pendulum(GymnasiumGame):
        name, env_id, licence, packages = "pendulum", "Pendulum-v1", "MIT", ("gymnasium",)
        fps, height, width, max_episode_steps = 15, 8, 8, 20
        actions = ActionSpec([Channel("torque", "axis")])

        def picture(self, observation):
            return np.zeros((8, 8, 3), np.uint8)

    raw = gym.make("Pendulum-v1")
    with Pendulum() as game:
        game.reset(3), raw.reset(seed=3)
        for torque in (1.0, -0.5):
            assert game.step(np.array([torque], np.float32))[1] == raw.step(np.array([2 * torque], np.float32))[1]
        with pytest.raises(ValueError, match="leaves its range"):
            game.step(np.array([1.5], np.float32))


def test_an_environment_that_cannot_be_copied_says_so(game):
    game.reset(0)
    game.env.unwrapped.handle = (each for each in ())
    with pytest.raises(ValueError, match=r"Slide-v0 cannot be copied \(.*generator.*\); override save and restore"):
        game.save()


@pytest.mark.parametrize("name", ["boxing", "minigrid", "slide_game:Slide"])
def test_every_adapter_passes_the_checker(name):
    pytest.importorskip({"boxing": "ale_py", "minigrid": "minigrid"}.get(name, "gymnasium"))
    check_game(game_class(name))


def test_the_checkers_command_answers_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check", "slide_game:Slide"])
    check.main()
    assert capsys.readouterr().out == (
        "slide: 16x8 at 10 frames a second, ActionSpec(left, right; Discrete(3)): all is well\n"
    )
    monkeypatch.setattr(sys, "argv", ["check", "slide_game:Slid"])
    with pytest.raises(SystemExit, match="check: unknown game 'Slid' in module 'slide_game'; did you mean 'Slide'"):
        check.main()


def test_without_its_package_a_game_says_what_to_install():
    with pytest.raises(ModuleNotFoundError, match="the real game slide needs slidegame: pip install slidegame"):
        adapter(env_module="slidegame", packages=("slidegame",))()


def test_a_game_with_axes_is_played_at_random_too():
    class Steered:
        actions = ActionSpec([Channel("steer", "axis"), Channel("fire")])

    choose = HeldRandom(np.random.default_rng(0))
    played = np.stack([choose(Steered) for _ in range(200)])
    Steered.actions.encode(played)
    assert played[:, 0].min() < -0.5 and played[:, 0].max() > 0.5
    assert set(played[:, 1]) == {0.0, 1.0}


# --- names of games ---


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a module of the user's in it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_adapter", "needy_adapter"):
        sys.modules.pop(name, None)


def test_an_adapter_in_the_working_folder_is_found(folder):
    (folder / "own_adapter.py").write_text("from slide_game import Slide\n\n\nclass Own(Slide):\n    name = 'own'\n")
    assert game_class("own_adapter:Own").name == "own"
    with pytest.raises(ValueError, match="unknown game 'Onw' in module 'own_adapter'; did you mean 'Own'. there is"):
        game_class("own_adapter:Onw")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minigird", "unknown game 'minigird'; did you mean 'minigrid'. .* as module:Class"),
        ("no_such_module:Game", "there is no module 'no_such_module' in "),
        ("worldsim_envs.gams:Game", "there is no module 'worldsim_envs.gams' in "),
        ("worldsim_envs.games.base:Game", "'worldsim_envs.games.base'; it defines no whole subclass of Game"),
        (":Game", "cannot import a game from ''"),
        ("..games:Game", "cannot import a game from '..games'"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        game_class(name)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_leaves_facts_out_is_told_which(folder):
    facts = "name, env_id = 'own', 'Slide-v0'\n    height = width = 8\n"
    text = f"from worldsim_envs.games import GymnasiumGame\n\n\nclass Own(GymnasiumGame):\n    {facts}"
    (folder / "own_adapter.py").write_text(text)
    with pytest.raises(ValueError, match="'own_adapter' does not state licence, packages, fps, actions, max_episode"):
        game_class("own_adapter:Own")


def test_what_an_adapter_itself_lacks_is_not_blamed_on_its_name(folder):
    (folder / "needy_adapter.py").write_text("import no_such_engine\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_engine"):
        game_class("needy_adapter:Game")


def test_the_real_game_of_a_world_is_the_one_its_id_names_or_the_users_own():
    assert source_game("MiniGrid-DoorKey-6x6-v0") is game_class("minigrid")
    assert source_game("Slide-v0", "slide_game:Slide") is Slide
    with pytest.raises(ValueError, match="slide_game:Slide is an adapter of Slide-v0; this world imagines ALE/Boxing"):
        source_game("ALE/Boxing-v5", "slide_game:Slide")


def test_what_a_worlds_file_says_is_never_imported(folder, monkeypatch):
    (folder / "own_adapter.py").write_text("raise SystemExit('this must not run')\n")
    with pytest.raises(ValueError, match="no adapter for the game own_adapter:Own.*name yours: --game module:Class"):
        source_game("own_adapter:Own")
    assert "own_adapter" not in sys.modules


def test_games_are_listed_under_their_own_names():
    assert all(kind.name == name and issubclass(kind, games.Game) for name, kind in games.GAMES.items())
