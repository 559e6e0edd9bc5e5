"""The record command: agents, scenes, clip and contact sheet."""

import json
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import tiny
from PIL import Image
from slide_game import Slide

from worldsim.action import ActionSpec
from worldsim.cli import main
from worldsim.heads import OutcomeHead
from worldsim.player.clip import write_clip
from worldsim.replay import Replay
from worldsim.world_info import Starts
from worldsim.world_model import WorldModel
from worldsim_envs import record
from worldsim_envs.env import WorldEnv
from worldsim_envs.games import make_game
from worldsim_envs.pictures import BACKGROUND, Column, clip_frame, contact_sheet, enlarge

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return str(tiny.save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def square_world(tmp_path_factory):
    """A random world with frames of the size that Boxing's have, so that the real game fits beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "HEIGHT", 64)
        return str(tiny.save_tiny_world(tmp_path_factory.mktemp("square")))


@pytest.fixture
def env(world):
    return WorldEnv(world)


def rng(seed=0):
    return np.random.default_rng(seed)


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_recorded_session_can_be_replayed(world, tmp_path):
    asked = ["record", world, "--seconds", "0.5", "--scale", "2", "--replay", str(tmp_path / "session.json")]
    assert main([*asked, "--out", str(tmp_path / "clip.mp4")]) == 0
    session = Replay.load(tmp_path / "session.json")
    assert session.frames() == 8 and session.check(WorldEnv(world)) == []


@pytest.mark.parametrize("option", [["--out", "clip.avi"], ["--sheet", "sheet.jpeg"]])
def test_an_unknown_file_type_is_a_one_line_error(world, capsys, option):
    assert main(["record", world, *option]) == 2
    assert "give a name that ends in" in capsys.readouterr().err


def test_a_clip_that_cannot_be_written_is_one_line_before_anything_is_painted(world, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["record", world, "--out", str(tmp_path / "file" / "clip.mp4")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "cannot write" in error and "clip.mp4" in error


@pytest.mark.parametrize(
    "option", [["--scale", "3"], ["--scale", "18"], ["--seconds", "0"], ["--seconds", "inf"], ["--seed=-1"]]
)
def test_an_impossible_number_is_refused(world, capsys, option):
    with pytest.raises(SystemExit):
        main(["record", world, *option])
    assert " is not a" in capsys.readouterr().err.splitlines()[-1]


def test_the_clip_shows_what_the_world_painted(world, tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps([2, 2, 11]))
    out = tmp_path / "deep" / "clip.mp4"
    arguments = [
        "--agent",
        str(tmp_path / "a.json"),
        "--seconds",
        "0.8",
        "--out",
        str(out),
        "--seed",
        "4",
        "--scale",
        "4",
    ]
    assert main(["record", world, *arguments]) == 0
    said = capsys.readouterr()
    assert "no real frames beside the imagined ones: frames of boxing are not 48x64" in said.err
    assert said.out.splitlines() == [f"clip:  {out}", f"sheet: {out.with_suffix('.png')}"]

    env = WorldEnv(world)
    agent = record.load_agent(str(tmp_path / "a.json"), env, rng())
    scenes = record.film(env, None, agent, 12, rng(4).spawn(2)[0])
    painted = [frame for scene in scenes for frame in scene.frames[record.IMAGINED][1:]]
    shown = frames_of(out)
    assert len(shown) == len(painted) == 12
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 15)
    for frame, picture in zip(painted, shown, strict=True):
        inner = picture[40 : 40 + 4 * 48, 16 : 16 + 4 * 64]
        error = inner.astype(float) - enlarge(frame, 4)
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 25  # coloured noise is the worst case


def test_colours_and_edges_survive_the_clip(env, tmp_path):
    blocks = np.array([[[106, 155, 64], [214, 60, 60]], [[20, 20, 20], [60, 80, 214]]], np.uint8)
    frame = blocks.repeat(24, axis=0).repeat(32, axis=1)
    frame[::5, ::7] = 255
    scene = record.Scene({record.IMAGINED: [frame] * 4}, {record.IMAGINED: [0.0] * 3}, [0] * 3)
    record.write_clip(tmp_path / "clip.mp4", [scene], env, 6)
    for picture in frames_of(tmp_path / "clip.mp4"):
        error = np.abs(picture[40 : 40 + 6 * 48, 16 : 16 + 6 * 64].astype(float) - enlarge(frame, 6))
        assert error.mean() < 3 and np.percentile(error, 99.9) < 40


def test_the_same_scenes_make_the_same_bytes(env, tmp_path):
    frames = [*rng().integers(0, 256, (9, 48, 64, 3), np.uint8)]
    scene = record.Scene({record.IMAGINED: frames}, {record.IMAGINED: [0.0] * 8}, [0] * 8)
    files = [tmp_path / f"{name}.mp4" for name in range(12)]
    for file in files:
        record.write_clip(file, [scene], env, 2)
    assert len({file.read_bytes() for file in files}) == 1


def test_a_new_scene_begins_where_an_episode_ends(world):
    env = WorldEnv(world, max_episode_steps=4)
    scenes = record.film(env, None, record.load_agent("random", env, rng()), 10, rng())
    assert [len(scene.actions) for scene in scenes] == [4, 4, 2]
    for scene in scenes:
        assert len(scene.frames[record.IMAGINED]) == len(scene.actions) + 1 == len(scene.rewards[record.IMAGINED]) + 1


@pytest.mark.atari
def test_real_and_imagined_begin_alike_and_get_the_same_actions(square_world, tmp_path, capsys):
    env = WorldEnv(square_world)
    with make_game("boxing") as game:
        (scene,) = record.film(env, game, record.load_agent("random", env, rng()), 6, rng(3))
    assert np.array_equal(scene.frames[record.REAL][0], scene.frames[record.IMAGINED][0])

    env = WorldEnv(square_world)
    with make_game("boxing") as game:
        again = record._begin(env, game, rng(3), imagined=True)
        for action, real, imagined in zip(
            scene.actions, scene.frames[record.REAL][1:], scene.frames[record.IMAGINED][1:], strict=True
        ):
            assert np.array_equal(game.step(action)[0], real)
            assert np.array_equal(env.step(action)[0], imagined)
    assert np.array_equal(again.frames[record.REAL][0], scene.frames[record.REAL][0])

    arguments = ["--seconds", "0.4", "--out", str(tmp_path / "clip.mp4"), "--sheet", str(tmp_path / "sheet.png")]
    assert main(["record", square_world, *arguments]) == 0
    assert "no real frames" not in capsys.readouterr().err
    assert frames_of(tmp_path / "clip.mp4")[0].shape[1] == 2 * 64 * 6 + 3 * 16
    assert (tmp_path / "sheet.png").is_file()


def test_without_the_source_game_only_imagined_frames_are_shown(square_world, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert main(["record", square_world, "--seconds", "0.2", "--out", str(tmp_path / "clip.mp4")]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "no real frames" in line)
    assert 'pip install "worldsim[atari]"' in line
    assert frames_of(tmp_path / "clip.mp4")[0].shape[1] == 64 * 6 + 2 * 16


@pytest.fixture(scope="module")
def slide_world(tmp_path_factory):
    """A random world of a game that no adapter in the package knows."""
    model = tiny.tiny_world(height=8, width=16, action_size=2)
    starts = Starts(np.zeros((1, 4, 8, 16, 3), np.uint8), np.zeros((1, 3), np.int64))
    info = replace(model.info, env_id=Slide.env_id, height=8, width=16)
    folder = tmp_path_factory.mktemp("slide")
    WorldModel(info, Slide.actions, model.denoiser, OutcomeHead(8, 16, width_conv=8), starts).save_pretrained(folder)
    return str(folder)


def recorded(world, folder, *arguments):
    """Exit status of a short recording, and the width of its pictures; 0 where there are none."""
    words = ["record", world, "--seconds", "0.2", "--scale", "2", "--out", str(folder / "clip.mp4"), *arguments]
    status = main(words)
    return status, frames_of(folder / "clip.mp4")[0].shape[1] if (folder / "clip.mp4").is_file() else 0


def test_a_world_of_a_users_game_is_filmed_beside_the_adapter_that_the_user_names(slide_world, tmp_path, capsys):
    assert recorded(slide_world, tmp_path, "--game", "slide_game:Slide") == (0, 2 * 16 * 2 + 3 * 16)
    assert "no real frames" not in capsys.readouterr().err


def test_the_real_game_alone_is_played_by_an_agent_that_looks_at_it(slide_world, tmp_path, monkeypatch):
    env, looked_at = WorldEnv(slide_world), []
    monkeypatch.setattr(env, "step", None)  # nothing is painted

    def agent(frame):
        looked_at.append(frame)
        return 2

    with Slide() as game:
        scenes = record.film(env, game, agent, 12, rng(), imagined=False)
    assert len(scenes) > 1 and all(list(scene.frames) == [record.REAL] for scene in scenes)
    shown = [frame for scene in scenes for frame in scene.frames[record.REAL][:-1]]
    assert len(shown) == 12 and all(map(np.array_equal, looked_at, shown))
    assert all(frame.max() == 255 for frame in shown)
    assert recorded(slide_world, tmp_path, "--game", "slide_game:Slide", "--real") == (0, 16 * 2 + 2 * 16)


@pytest.mark.parametrize("options", [(), ("--real",)])
def test_a_policy_of_the_games_own_plays_by_the_real_games_state(slide_world, tmp_path, monkeypatch, options):
    class Outward:
        def __init__(self, rng):
            self.seen = 0

        def __call__(self, game):
            assert isinstance(game, Slide)
            self.seen += 1
            return 2

    made, policies = [], Slide.policies()
    own = {"outward": lambda rng: made.append(Outward(rng)) or made[-1]}
    monkeypatch.setattr(Slide, "policies", staticmethod(lambda: policies | own))
    assert recorded(slide_world, tmp_path, "--game", "slide_game:Slide", "--agent", "outward", *options)[0] == 0
    assert [policy.seen for policy in made] == [3]


def test_a_policy_of_the_games_own_is_unknown_where_the_game_is(slide_world, tmp_path, capsys):
    assert recorded(slide_world, tmp_path, "--agent", "dodger") == (2, 0)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "unknown agent 'dodger'" in error
    assert recorded("boxing", tmp_path, "--agent", "figter") == (2, 0)
    assert "did you mean 'fighter'? use random, noop, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--real",), "no adapter for the game Slide-v0"),
        (("--real", "--steps", "2"), "--steps and --compile are for imagined worlds"),
        (("--real", "--compile"), "--steps and --compile are for imagined worlds"),
        (("--real", "--game", "slide_game:Slide", "--replay", "s.json"), "leave out --replay or --real"),
    ],
)
def test_a_recording_of_the_real_game_alone_that_cannot_be_made_is_one_line(
    slide_world, tmp_path, capsys, options, message
):
    assert recorded(slide_world, tmp_path, *options) == (2, 0)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_a_world_of_an_unknown_game_is_filmed_alone_and_says_how_to_name_the_game(slide_world, tmp_path, capsys):
    assert recorded(slide_world, tmp_path) == (0, 16 * 2 + 2 * 16)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "no real frames" in line)
    assert "no adapter for the game Slide-v0" in line and "--game module:Class" in line


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("slide_game:Slid", "unknown game 'Slid' in module 'slide_game'; did you mean 'Slide'?"),
        ("boxing", "boxing is an adapter of ALE/Boxing-v5; this world imagines Slide-v0"),
        ("slide_variants:Mirrored", "mirrored and the world number their actions differently"),
        ("slide_variants:Wide", "frames of wide are not 8x16"),
    ],
)
def test_a_wrong_adapter_that_the_user_names_is_refused(slide_world, tmp_path, monkeypatch, capsys, game, message):
    variants = ModuleType("slide_variants")
    spec = Slide.actions
    mirrored = ActionSpec(spec.channels, spec.table[::-1], names=spec.names, keys=spec.keys)
    variants.Mirrored = type("Mirrored", (Slide,), {"name": "mirrored", "actions": mirrored})
    variants.Wide = type("Wide", (Slide,), {"name": "wide", "width": 24})
    monkeypatch.setitem(sys.modules, "slide_variants", variants)
    assert recorded(slide_world, tmp_path, "--game", game) == (2, 0)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_without_av_it_names_the_extra(world, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["record", world]) == 2
    assert capsys.readouterr().err == (
        'worldsim: an mp4 needs PyAV: pip install "worldsim[video]"; a .gif needs nothing\n'
    )


def test_a_sheet_holds_each_frame_sharp_and_in_its_place():
    frames = rng().integers(0, 256, (2, 3, 2, 12, 16, 3), dtype=np.uint8)
    bands = [
        [Column(f"step {step}", "UP", {"real": pair[0], "imagined": pair[1]}) for step, pair in enumerate(band)]
        for band in frames
    ]
    sheet = np.asarray(contact_sheet(bands, "title", "subtitle", scale=3))
    places = {}
    for index in np.ndindex(2, 3, 2):
        tile = enlarge(frames[index], 3)
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], tile.shape[:2])
        corners = np.argwhere((windows[..., 0, 0] == tile[0, 0, 0]) & (windows[..., -1, -1] == tile[-1, -1, 0]))
        found = [tuple(at) for at in corners if np.array_equal(sheet[at[0] : at[0] + 36, at[1] : at[1] + 48], tile)]
        assert len(found) == 1
        places[index] = found[0]
    for band, column, row in places:
        assert places[band, column, row][1] == places[0, column, 0][1]
        assert places[band, column, row][0] == places[band, 0, row][0]
    assert places[0, 0, 0][0] < places[0, 0, 1][0] < places[1, 0, 0][0] < places[1, 0, 1][0]
    assert places[0, 0, 0][1] < places[0, 1, 0][1] < places[0, 2, 0][1]


def test_the_words_over_small_frames_stay_in_their_columns_and_in_the_sheet():
    frames = {"real": np.zeros((32, 32, 3), np.uint8)}
    columns = [Column("step 100   10.00 s", "x +0.5  y -0.3", frames)] * 3
    sheet = np.asarray(
        contact_sheet([columns], "Glide, imagined", "Agent random, seed 0, 2 denoising steps a frame", 3)
    )
    is_drawn = (sheet != BACKGROUND).any(axis=-1)
    (left, *_), right = np.flatnonzero(is_drawn[-60]), sheet.shape[1] - 28
    assert not is_drawn[:, right:].any()
    for start in range(left, right, 96 + 10):
        assert is_drawn[100:150, start : start + 96].any()
        assert not is_drawn[100:150, start + 96 : start + 96 + 8].any()


@pytest.mark.parametrize(("suffix", "fps"), [(".gif", 15), (".gif", 12), (".webp", 15), (".webp", 9)])
def test_a_clip_lasts_as_long_as_what_it_shows(tmp_path, suffix, fps):
    write_clip(tmp_path / f"c{suffix}", [np.full((48, 64, 3), step, np.uint8) for step in range(60)], fps)
    with Image.open(tmp_path / f"c{suffix}") as image:
        lasts = 0
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()  # the format tells how long a frame lasts with its pixels
            lasts += image.info["duration"]
    assert lasts == pytest.approx(1000 * 60 / fps, abs=10)


def test_an_agent_may_answer_with_an_array_of_no_axis_beside_the_real_game(slide_world, tmp_path):
    (tmp_path / "a.py").write_text("import numpy as np\ndef act(observation, rng):\n    return np.array(1)\n")
    assert recorded(slide_world, tmp_path, "--game", "slide_game:Slide", "--agent", str(tmp_path / "a.py"))[0] == 0


def test_game_pixels_lie_on_even_positions_of_a_clip():
    frames = {"real": np.full((6, 10, 3), 200, np.uint8), "imagined": np.full((6, 10, 3), 250, np.uint8)}
    picture = clip_frame(frames, "", 2)
    assert picture.shape[0] % 4 == picture.shape[1] % 4 == 0
    for value in (200, 250):
        rows, columns = np.nonzero((picture[40:52] == value).all(axis=-1))
        assert len(rows) == 12 * 20 and rows.min() == 0 and columns.min() % 2 == 0


@pytest.mark.parametrize("length", [1, 5, 16, 23, 24, 300])
def test_a_sheet_goes_from_the_start_to_the_end(length):
    bands = record._sheet_steps(length)
    steps = [step for band in bands for step in band]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] <= length
    assert max(map(len, bands)) <= record.SHEET_COLUMNS
    if length >= 24:
        assert steps[-1] == length


def test_the_sheet_is_a_png_beside_the_clip(world, tmp_path):
    out = tmp_path / "walk.mp4"
    assert main(["record", world, "--agent", "noop", "--seconds", "2", "--out", str(out)]) == 0
    with Image.open(tmp_path / "walk.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 8 * 64 * record.SHEET_SCALE


@pytest.mark.parametrize(
    "work, kept, told",
    [
        ("_continue", [], "{clip} not written"),
        ("clip_frame", [], "{clip} not written"),
        ("contact_sheet", ["walk.json", "walk.mp4"], "{clip} and {replay} kept, the sheet not written"),
    ],
)
def test_an_interrupt_says_what_became_of_the_files(world, tmp_path, monkeypatch, capsys, work, kept, told):
    def interrupted(*given):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(*given)

    real, left = getattr(record, work), [] if work == "contact_sheet" else [1, 2]
    monkeypatch.setattr(record, work, interrupted)
    clip, replay = tmp_path / "walk.mp4", tmp_path / "walk.json"
    assert main(["record", world, "--seconds", "1", "--out", str(clip), "--replay", str(replay)]) == 130
    out, err = capsys.readouterr()
    right = f"worldsim record: interrupted; {told.format(clip=clip, replay=replay)}"
    assert err.splitlines()[-1] == right and not out
    assert sorted(each.name for each in tmp_path.iterdir()) == kept


def test_a_clip_of_that_name_is_whole_or_as_it_was(tmp_path):
    def broken():
        yield np.zeros((64, 64, 3), np.uint8)
        raise KeyboardInterrupt

    for suffix in (".mp4", ".gif"):
        clip = tmp_path / f"old{suffix}"
        clip.write_bytes(b"old")
        with pytest.raises(KeyboardInterrupt):
            write_clip(clip, broken(), 15)
        assert clip.read_bytes() == b"old"
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OSError) as error:
        write_clip(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)], 15)
    assert error.value.filename == str(tmp_path / "a.mp4")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.mp4", "old.gif", "old.mp4"]


@pytest.mark.parametrize("scale", [2, 6])
def test_the_labels_of_a_clip_stay_above_their_own_frames(scale):
    dark = np.zeros((64, 64, 3), np.uint8)
    frames = {"real   score -12": dark, "imagined   score +12": dark}
    picture = clip_frame(frames, "frame 299   UPRIGHTFIRE", scale)
    written, width = (picture != BACKGROUND).any(axis=-1), 64 * scale
    real, imagined = (slice(left, left + width) for left in (16, 32 + width))
    assert all(written[:40, column].any() for column in (real, imagined)) and written[40 + width :].any()
    written[:, real] = written[:, imagined] = False
    written[40 + width :, 16 : 32 + 2 * width] = False
    assert not written.any()


def test_a_clip_for_a_web_page_moves_at_the_world_s_rate(world, tmp_path):
    file = tmp_path / "clip.webp"
    assert main(["record", world, "--seconds", "0.4", "--scale", "2", "--out", str(file)]) == 0
    fps = WorldEnv(world).metadata["render_fps"]
    with Image.open(file) as film:
        assert film.n_frames == round(0.4 * fps)
        film.load()
        assert film.info["duration"] == round(1000 / fps)
