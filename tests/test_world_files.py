"""Worlds on disk: saved, loaded, damaged."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from playing import actions_of, equal, in_bfloat16, one_line, past_of, play
from tiny import tiny_world

from worldsim.world_files import verify_manifest, write_manifest
from worldsim.world_model import WorldModel

FILES = [
    "model_index.json",
    "starts.png",
    *(
        f"{part}/{file}"
        for part in ("denoiser", "heads")
        for file in ("config.json", "diffusion_pytorch_model.safetensors")
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    tiny_world().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_a_saved_world_plays_the_same_bytes_as_its_bfloat16_weights(saved):
    world, loaded = in_bfloat16(tiny_world()), WorldModel.from_pretrained(saved)
    runs = [play(each, each.reset(*past_of(2), [0, 1]), actions_of(2, 4)) for each in (world, loaded)]
    assert equal(*runs)
    assert loaded.denoiser.dtype == loaded.heads.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in loaded.denoiser.parameters())


def test_loading_in_float32_keeps_the_saved_values(saved):
    full, half = (WorldModel.from_pretrained(saved, dtype=dtype) for dtype in (torch.float32, None))
    weights = [dict(each.denoiser.named_parameters()) for each in (full, half)]
    assert all(weight.dtype == torch.float32 for weight in weights[0].values())
    assert all(torch.equal(weights[0][name], weight.float()) for name, weight in weights[1].items())


def test_everything_but_the_weights_precision_survives_saving(saved):
    world, loaded = tiny_world(), WorldModel.from_pretrained(str(saved))
    assert loaded.info == world.info and loaded.actions == world.actions
    for part in ("denoiser", "heads"):
        one, other = (getattr(each, part).config for each in (world, loaded))
        settings = [key for key in one if not key.startswith("_")]
        assert settings and all(json.dumps(other[key]) == json.dumps(one[key]) for key in settings)
    assert np.array_equal(loaded.starts.frames, world.starts.frames) and loaded.starts.frames.dtype == np.uint8
    assert np.array_equal(loaded.starts.actions, world.starts.actions)
    assert loaded.actions.encode(loaded.starts.actions).shape == (3, 3, 5)


def test_saving_leaves_the_float32_weights_in_memory(tmp_path):
    world = tiny_world()
    before = copy.deepcopy(world.denoiser.state_dict()) | copy.deepcopy(world.heads.state_dict())
    world.save_pretrained(tmp_path / "world")
    after = world.denoiser.state_dict() | world.heads.state_dict()
    assert all(after[name].dtype == weight.dtype for name, weight in before.items())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_world_saved_twice_or_from_another_folder_has_the_same_fingerprint(saved, tmp_path):
    world = tiny_world()
    assert world.fingerprint == ""
    world.save_pretrained(tmp_path / "again")
    loaded = WorldModel.from_pretrained(saved)
    assert loaded.fingerprint == world.fingerprint == verify_manifest(saved) != ""
    loaded.save_pretrained(tmp_path / "elsewhere")
    assert loaded.fingerprint == world.fingerprint


def test_a_saved_world_names_no_folder_of_its_makers_machine(saved, tmp_path):
    WorldModel.from_pretrained(saved).save_pretrained(tmp_path / "world")
    for path in (tmp_path / "world").rglob("*.json"):
        assert str(saved.parent) not in path.read_text()


def test_a_world_can_be_saved_over_an_older_one(folder):
    other = tiny_world(seed=1)
    other.save_pretrained(folder)
    assert WorldModel.from_pretrained(folder).fingerprint == other.fingerprint


def test_the_manifest_lists_every_file_but_itself_and_the_card(saved):
    (saved / "README.md").write_text("A card may be edited.")
    verify_manifest(saved)
    on_disk = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    listed = set(json.loads((saved / "manifest.json").read_text())["files"])
    assert listed == on_disk - {"manifest.json", "README.md"} == set(FILES)


def load_refused(folder, *named, error=ValueError):
    with pytest.raises(error) as caught:
        WorldModel.from_pretrained(folder)
    message = one_line(caught)
    for name in named:
        assert name in message, message


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_truncated_or_missing_file_is_named_with_its_remedy(folder, file):
    path = folder / file
    content = path.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        load_refused(folder, file, "does not match its manifest", "restore it")
    for cut in (content[:-1], content[: len(content) // 2], b""):
        path.write_bytes(cut)
        load_refused(folder, file, "does not match its manifest", "restore it")
    path.unlink()
    load_refused(folder, file, "missing", "restore it")
    path.write_bytes(content)
    verify_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(folder):
    (folder / "manifest.json").unlink()
    load_refused(folder, "manifest.json", "save_pretrained", error=FileNotFoundError)
    with pytest.raises(FileNotFoundError, match="holds no manifest.json; a world is a folder written by"):
        verify_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "files": []}',
        '{"schema": 1, "files": {"model_index.json": 3}}',
        '{"schema": 1, "files": {"model_index.json": {"bytes": 1e999, "sha256": ""}}}',
        '{"schema": 1, "files": {"model_index.json": {"bytes": 7}}}',
    ],
)
def test_a_damaged_manifest_is_named_with_its_remedy(folder, text):
    (folder / "manifest.json").write_text(text)
    load_refused(folder, "manifest.json", "damaged", "restore")


def test_a_manifest_that_is_no_text_is_refused(folder):
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    load_refused(folder, "manifest.json", "damaged", "restore")


def test_no_changed_byte_of_the_manifest_goes_unseen(folder):
    """Every single byte in turn: refused in one line, or the same data (a space turned into another space)."""
    path = folder / "manifest.json"
    content = path.read_bytes()
    data = json.loads(content)
    for place in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[place] ^= 3
        path.write_bytes(flipped)
        try:
            verify_manifest(folder)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert json.loads(flipped) == data


@pytest.mark.parametrize("file", FILES)
def test_a_manifest_that_leaves_a_file_out_is_refused(folder, file):
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    del data["files"][file]
    path.write_text(json.dumps(data))
    load_refused(folder, "manifest.json", f"does not list {file}", "restore")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_manifest_that_points_out_of_its_folder_is_refused(folder, absolute):
    outside = folder.parent / "secret"
    outside.write_text("secret")
    name = str(outside) if absolute else "../secret"
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    data["files"][name] = {"bytes": 6, "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}
    path.write_text(json.dumps(data))
    load_refused(folder, "secret", "restore")


@pytest.mark.parametrize("file", ["manifest.json", "model_index.json"])
def test_a_world_of_another_schema_says_what_to_install(folder, file):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    if file != "manifest.json":
        write_manifest(folder)
    load_refused(folder, file, "schema 2", "reads 1", "install")


def test_a_description_with_other_fields_is_refused(folder):
    path = folder / "model_index.json"
    data = json.loads(path.read_text())
    data["world"]["colour"] = data["world"].pop("fps")
    path.write_text(json.dumps(data))
    write_manifest(folder)
    load_refused(folder, "colour, fps")


def test_cards_logs_and_pictures_beside_the_weights_change_without_changing_the_world(folder):
    before = verify_manifest(folder)
    for name in ("README.md", "test_split.jsonl", "sheet.png", "clip.webp"):
        (folder / name).write_bytes(b"anything")
    assert write_manifest(folder) == verify_manifest(folder) == before
    (folder / "starts.png").write_bytes(b"anything")
    assert write_manifest(folder) != before
