"""Finding worlds and telling their facts."""

import json

import gymnasium as gym
import pytest
from tiny import save_tiny_world

from worldsim.cli import main
from worldsim.info import world_facts
from worldsim.names import titled
from worldsim.worlds import list_worlds, world_path

CARD = """---
license: mit
datasets: [recorded with ale-py]
model-index:
- name: tiny
  results:
  - task: {type: world-model}
    dataset: {type: recording, name: Boxing}
    metrics: [{type: gain_1_db, value: 4.5}]
---
# Tiny
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = save_tiny_world(tmp_path_factory.mktemp("worlds") / "tiny")
    (folder / "README.md").write_text(CARD)
    return folder


def test_the_facts_of_a_world_come_from_its_files(tiny):
    facts = world_facts(tiny)
    assert facts["world"] == "tiny"
    assert facts["frames"] == "64x48 at 15 FPS"
    assert facts["actions"].startswith("18: NOOP, ")
    assert facts["licence"] == "mit"
    assert facts["data"] == "recorded with ale-py"
    assert facts["measured"] == "gain_1_db 4.5"


def test_a_world_of_ones_own_names_the_environment_that_plays_it(tiny):
    name, _, argument = world_facts(tiny)["environment"].partition(" with ")
    assert gym.make(name, world=argument.removeprefix("world=").strip("'")).unwrapped.model.info.name == "tiny"


def test_info_prints_every_fact(tiny, capsys):
    assert main(["info", str(tiny)]) == 0
    out = capsys.readouterr().out
    assert all(value in out for value in world_facts(tiny).values())


def test_info_lists_the_shipped_worlds(capsys):
    assert main(["info"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list_worlds()


def test_every_shipped_world_has_an_environment_and_a_card():
    for name in list_worlds():
        facts = world_facts(name)
        assert facts["world"] == name
        assert facts["environment"].startswith("worldsim/")
        assert facts["licence"] and facts["measured"]


@pytest.mark.parametrize("text", ["{", "[]", '{"world": {}}', json.dumps({"world": {"name": "x"}, "actions": {}})])
def test_a_damaged_index_is_named(tiny, tmp_path, text):
    for file in ("manifest.json", "README.md"):
        (tmp_path / file).write_bytes((tiny / file).read_bytes())
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        world_facts(tmp_path)


def test_a_world_is_found_by_the_path_of_its_folder(tiny):
    assert world_path(tiny) == tiny
    assert world_path(str(tiny)) == tiny


def test_a_shipped_world_is_found_by_its_name():
    for name in list_worlds():
        assert (world_path(name) / "manifest.json").is_file()


def test_an_unknown_name_lists_the_shipped_worlds():
    with pytest.raises(ValueError, match=r"unknown world 'nosuchworld'; shipped worlds: "):
        world_path("nosuchworld")


def test_a_misspelt_world_gets_the_nearest_name():
    for name in list_worlds():
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            world_path(name[:-1])


def test_a_folder_without_a_manifest_is_no_world(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no world: it has no manifest.json"):
        world_path(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no world folder '.*gone'"):
        world_path(tmp_path / "gone")


def test_a_worlds_name_as_a_heading_has_no_underscores():
    assert (titled("take_cover"), titled("boxing")) == ("Take Cover", "Boxing")
    assert titled("carracing", "CarRacing-v3") == "Car Racing" and titled("boxing", "ALE/Boxing-v5") == "Boxing"
    assert titled("take_cover", "VizdoomTakeCover-v1") == "Take Cover"


@pytest.mark.parametrize(("header", "words"), [("license: [", "header of .* cannot"), ("license: [mit, 3]", None)])
def test_any_header_of_a_card_is_told_or_one_line(tmp_path, header, words):
    save_tiny_world(tmp_path)
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# Mine\n")
    if words is None:
        assert world_facts(tmp_path)["licence"] == "mit, 3"
    else:
        with pytest.raises(ValueError, match=words):
            world_facts(tmp_path)


def test_memory_is_told_of_a_world_that_is_named(capsys):
    assert main(["info", "--batch", "4"]) == 2 and "name it" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("info",), ("play", "--headless", "--keys", "up")])
def test_an_exported_world_is_told_for_what_it_is(tmp_path, capsys, command):
    (tmp_path / "exported.json").write_text("{}")
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "is an exported world; play it as gymnasium's" in capsys.readouterr().err
