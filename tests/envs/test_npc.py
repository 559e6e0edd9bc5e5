"""Scenes with an NPC, in the source game and in a tiny random world."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_encounter, tiny_world

import worldsim_envs
from worldsim_envs.encounter.rules import ANSWERS, GESTURES, NEAREST, REACH, TEMPERAMENTS
from worldsim_envs.games.encounter import Encounter
from worldsim_envs.npc import Clip, NPCScene, save_clips
from worldsim_envs.npc.script import read_script
from worldsim_envs.npc.stage import walk_up

pytestmark = pytest.mark.usefixtures("one_thread")


def answers(clip, seed, temperament):
    """The answers in a clip of the source game, by playing its actions again."""
    game, told = Encounter(), []
    game.restore(walk_up(seed, temperament).scene)
    for action, frame in zip(clip.actions, clip.frames[1:], strict=True):
        assert np.array_equal(game.step(action)[0], frame)
        told += game.scene.reactions
    return told


def test_it_is_exported_by_the_package():
    assert worldsim_envs.NPCScene is NPCScene and worldsim_envs.Clip is Clip
    with pytest.raises(AttributeError, match="no attribute 'NPCSene'; it has Clip, NPCScene"):
        worldsim_envs.NPCSene  # noqa: B018


@pytest.mark.parametrize("temperament", TEMPERAMENTS)
def test_in_the_game_the_npc_answers_each_gesture_as_the_table_says(temperament):
    scene = NPCScene(seed=2, temperament=temperament)
    gestures = GESTURES[:-1]
    for gesture, clip in scene.compare(dict.fromkeys(gestures, ...), 8).items():
        (answer,) = answers(clip, 2, temperament)
        assert (answer.gesture, answer.reaction) == (gesture, ANSWERS[temperament, "calm"][gesture][0])


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_opens_within_reach_and_alike_for_every_temperament(seed):
    openings = [walk_up(seed, name) for name in TEMPERAMENTS]
    for one, other in pairwise(openings):
        assert np.array_equal(one.frames, other.frames)
    for opening in openings:
        player, npc = opening.scene.figures
        assert NEAREST < abs(npc.x - player.x) <= min(REACH.values()) and player.act == npc.act == "stand"
        assert len(opening.frames) == len(opening.actions) + 1


def test_a_clip_holds_the_frame_before_and_one_for_each_action(world):
    scene = NPCScene(world, seed=1, temperament="proud")
    before = scene.frame
    clip = scene.react("wave", frames=3)
    assert clip.frames.shape == (4, 64, 64, 3) and clip.frames.dtype == np.uint8 and clip.actions.shape == (3, 21)
    assert np.array_equal(clip.frames[0], before) and np.array_equal(clip.frames[-1], scene.frame)
    assert clip.words == ("wave", "", "") and len(clip) == 3 and scene.source in clip.title
    assert clip.actions[:, Encounter.actions.index("npc_proud")].tolist() == [1, 1, 1]


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(world):
    one, again, other = (NPCScene(world, seed=seed).react("bow", 3).frames for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_comparing_leaves_the_scene_where_it_was_and_shows_what_would_follow(world):
    scene = NPCScene(world, seed=1, temperament="timid")
    scene.play(2)
    clips = scene.compare({"wave": ..., "closer": "right*2,threaten"}, 4)
    before = clips["wave"].frames[0]
    assert np.array_equal(clips["closer"].frames[0], before) and np.array_equal(scene.frame, before)
    assert not np.array_equal(clips["wave"].frames, clips["closer"].frames)
    assert np.array_equal(scene.react("wave", 4).frames, clips["wave"].frames)


def test_comparing_under_another_temperament_lasts_no_longer_than_the_comparison(world):
    scene = NPCScene(world, seed=1, temperament="timid")
    (clip,) = scene.compare({"wave": ...}, 2, temperament="hostile").values()
    assert clip.actions[:, Encounter.actions.index("npc_hostile")].all() and scene.temperament == "timid"


def test_a_save_state_goes_on_alike(world):
    scene = NPCScene(world, seed=1)
    scene.emit("rest*2,wave")
    scene.step()
    state = scene.save_state()
    one = scene.play(3)
    scene.temperament = "hostile"
    scene.load_state(state)
    assert scene.temperament == "friendly" and scene.play(3).words == one.words == ("", "wave", "")
    assert np.array_equal(scene.frame, one.frames[-1])


def test_what_is_emitted_while_running_begins_with_the_next_frame(world):
    live, scripted = NPCScene(world, seed=1), NPCScene(world, seed=1)
    frames = [live.step()]
    live.emit("wave")
    frames += [live.step(), live.step()]
    assert np.array_equal(scripted.react("rest*1,wave", 3).frames[1:], frames)


def test_a_temperament_changed_while_running_decides_answers_that_have_not_begun():
    scene = NPCScene(seed=1, temperament="friendly")
    scene.emit("threaten")
    first = scene.play(2)  # an answer begins 2 frames after the gesture's first, at the earliest
    scene.temperament = "hostile"
    rest = scene.play(4)
    frames, actions = np.concatenate((first.frames, rest.frames[1:])), np.concatenate((first.actions, rest.actions))
    both = Clip(frames, actions, first.words + rest.words, scene.fps, "")
    (answer,) = answers(both, 1, "friendly")
    assert (answer.temperament, answer.reaction) == ("hostile", "brawl")


def acts(scene, clip, seed):
    """What the NPC does in each frame of a clip of the source game after the first, by playing its actions again."""
    game, seen = Encounter(), []
    game.restore(walk_up(seed, scene.temperament).scene)
    for action, frame in zip(clip.actions, clip.frames[1:], strict=True):
        assert np.array_equal(game.step(action)[0], frame)
        seen.append(game.scene.figures[1].act)
    return seen


def test_a_driven_npc_does_as_its_script_says_and_nothing_of_its_own():
    scene = NPCScene(seed=1, temperament="timid")
    scene.drive("rest*2,bow")
    scene.drive("rest*8,guard*3")  # after that
    clip = scene.react("threaten", 16)
    assert acts(scene, clip, 1) == ["stand"] * 2 + ["bow"] * 8 + ["stand"] + ["guard"] * 3 + ["stand"] * 2
    assert answers(clip, 1, "timid") == [] and "driven" in clip.title
    channel = Encounter.actions.index
    assert clip.actions[:, channel("npc_driven")].all() and not clip.actions[:, channel("npc_timid")].any()
    assert clip.actions[:, channel("npc_guard")].tolist() == [0] * 11 + [1] * 3 + [0] * 2


def test_a_released_npc_answers_again():
    scene = NPCScene(seed=1, temperament="friendly")
    scene.drive("wave")
    first = scene.play(10)
    scene.release()
    rest = scene.react("bow", 8)
    both = Clip(
        np.concatenate((first.frames, rest.frames[1:])), np.concatenate((first.actions, rest.actions)), (), 12, ""
    )
    assert [told.reaction for told in answers(both, 1, "friendly")] == ["bow"] and "friendly" in rest.title


def test_an_agent_drives_by_what_it_sees():
    def mirror(frame):
        assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
        seen.append(frame)
        return "strike" if len(seen) == 3 else ""

    seen, scene = [], NPCScene(seed=1)
    scene.drive(mirror)
    clip = scene.play(6)
    assert np.array_equal(seen, clip.frames[:-1])
    assert acts(scene, clip, 1) == ["stand", "stand"] + ["strike"] * 4


def test_the_driver_is_part_of_a_save_state_and_moves_worlds_too(world):
    scene = NPCScene(world, seed=1)
    scene.drive("rest*1,wave")
    scene.step()
    state = scene.save_state()
    driven = scene.play(2)
    scene.load_state(state)
    assert np.array_equal(scene.play(2).frames, driven.frames)
    scene.load_state(state)
    scene.release()
    assert not np.array_equal(scene.play(2).frames, driven.frames)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("wvae", "unknown gesture 'wvae'; did you mean 'wave'"),
        (7, "driver 7 moves nobody; give a script such as 'wave', or a function of the frame"),
        (lambda frame: "wave&bow", "conflicting buttons 'wave' and 'bow'"),
        (lambda frame: "wvae", "unknown gesture 'wvae'; did you mean 'wave'"),
        (lambda frame: 3, "3 is no button; answer with one, such as 'wave', or with '' for none"),
        (lambda frame: None, "None is no button"),
        (lambda frame: "left,wave", "'left,wave' is no button"),
        (lambda frame: "left*2", "'left\\*2' is no button"),
    ],
)
def test_a_wrong_driver_is_told_in_one_line_and_leaves_the_scene_where_it_was(driver, words):
    scene = NPCScene(seed=1)
    scene.emit("wave")
    before = scene.save_state()
    with pytest.raises(ValueError, match=words) as caught:
        scene.drive(driver)
        scene.step()
    assert "\n" not in str(caught.value)
    scene.release()
    assert scene.save_state() == before


@pytest.mark.parametrize("film", [lambda scene: scene.react("guard*8", 9), lambda scene: scene.play(9)])
def test_an_agent_that_errs_in_mid_film_leaves_the_scene_as_it_was(film):
    asked, scene = [], NPCScene(seed=1)
    scene.emit("wave")

    def agent(frame):
        asked.append(frame)
        return "" if len(asked) < 4 else "jump"

    scene.drive(agent)
    before, frame = scene.save_state(), scene.frame
    with pytest.raises(ValueError, match="unknown gesture 'jump'"):
        film(scene)
    assert scene.save_state() == before and np.array_equal(scene.frame, frame) and len(asked) == 4


def test_a_clip_is_saved_by_its_suffix_and_always_as_the_same_bytes(world, tmp_path):
    pytest.importorskip("av")
    scene = NPCScene(world, seed=1)
    clips = scene.compare({"wave": ..., "bow": ...}, 4)
    for suffix, kind in ((".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG"), (".mp4", None)):
        written = []
        for name in ("one", "other"):
            paths = clips["bow"].save(tmp_path / f"{name}{suffix}"), save_clips(tmp_path / f"{name}s{suffix}", clips)
            written.append([path.read_bytes() for path in paths])
            for path in paths if kind else ():
                with Image.open(path) as picture:
                    assert picture.format == kind and (kind == "PNG" or picture.n_frames > 1)
        assert written[0] == written[1]


def test_clips_of_different_length_and_other_suffixes_are_refused(tmp_path):
    scene = NPCScene(seed=1)
    clip = scene.play(2)
    with pytest.raises(ValueError, match="give a name that ends in .mp4, .gif, .webp or .png"):
        clip.save(tmp_path / "clip.avi")
    with pytest.raises(ValueError, match="as long as each other; their frames are one: 2, other: 3"):
        save_clips(tmp_path / "clips.gif", {"one": clip, "other": scene.play(3)})


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("wvae", "unknown gesture 'wvae'; did you mean 'wave'"),
        ("wave,strik*2", "unknown gesture 'strik'; did you mean 'strike'"),
        ("left&right", "conflicting buttons 'left' and 'right'; hold one at a time, such as 'left,right'"),
        ("wave&bow&left", "conflicting buttons 'wave' and 'bow'"),
        ("wave*0", "'wave\\*0' is held for '0' frames; give a number from 1 to 300"),
        ("wave*x", "give a number from 1 to 300"),
        ("", "names nothing to do; give a gesture such as 'wave'"),
    ],
)
def test_a_wrong_script_is_told_in_one_line_and_leaves_the_scene_as_it_was(script, words):
    scene = NPCScene(seed=1)
    before = scene.save_state()
    for use in (scene.react, scene.emit, lambda script: scene.compare({"right": "wave", "wrong": script})):
        with pytest.raises(ValueError, match=words) as caught:
            use(script)
        assert "\n" not in str(caught.value)
    assert scene.save_state() == before


def test_a_script_says_what_is_held_in_each_frame():
    assert read_script("right*2, wave ,rest*1,wave&left") == ["right", "right", "wave", "", "wave"]
    assert read_script("guard") == ["guard"] * 8


def test_a_scene_is_no_longer_than_allowed(world):
    scene = NPCScene(world, seed=1)
    scene.play(2)
    with pytest.raises(ValueError, match="a scene has 300 frames at most and 2 are played; ask for 298 or fewer"):
        scene.react("wave", 299)
    with pytest.raises(ValueError, match="frames=0; give a whole number from 1"):
        scene.play(0)
    assert scene.frames_left == 298


def test_after_the_last_frame_a_new_scene_is_called_for():
    scene = NPCScene(seed=1)
    scene.play(300)
    with pytest.raises(ValueError, match="300 are played; begin a new scene"):
        scene.step()


def test_numpys_whole_numbers_are_numbers():
    one, other = NPCScene(seed=3), NPCScene(seed=np.int64(3))
    assert np.array_equal(one.play(2).frames, other.play(np.int32(2)).frames)


def test_a_state_of_another_kind_of_scene_is_told_in_one_line_and_leaves_the_scene_as_it_was():
    game, imagined = NPCScene(seed=1), NPCScene(tiny_encounter(), seed=1)
    pairs = ((game, imagined.save_state(), "the world encounter"), (imagined, game.save_state(), "the source game"))
    for scene, state, seen in pairs:
        before = scene.frame
        with pytest.raises(ValueError, match=f"the state is of {seen}; give what save_state"):
            scene.load_state(state)
        assert np.array_equal(scene.frame, before)
        scene.step()
    with pytest.raises(ValueError, match="the state is a str; give what save_state"):
        game.load_state("moment")


def test_a_wrong_beginning_is_told_in_one_line():
    with pytest.raises(ValueError, match="unknown temperament 'shy'; there is friendly, timid, proud, hostile"):
        NPCScene(temperament="shy")
    with pytest.raises(ValueError, match="unknown temperament 'tmid'; did you mean 'timid'"):
        NPCScene(seed=1).temperament = "tmid"
    with pytest.raises(ValueError, match="seed=-1; give a whole number from 0"):
        NPCScene(seed=-1)
    with pytest.raises(ValueError, match="steps=2; the source game has no network"):
        NPCScene(steps=2)
    with pytest.raises(ValueError, match="unknown world 'gmae'"):
        NPCScene("gmae")
    with pytest.raises(ValueError, match="world 'tiny' has no NPC to meet, only up, down, left, right, fire"):
        NPCScene(tiny_world())
