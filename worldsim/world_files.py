"""The files of a world's folder, listed in a manifest that tells whether they are whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from worldsim.worlds import MANIFEST

SCHEMA = 1
INDEX = "model_index.json"
STARTS = "starts.png"
PARTS = ("denoiser", "heads")
"""Folders of the networks."""
PART_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
NOTES = (".md", ".jsonl", ".png", ".webp")
"""Cards, logs and pictures beside the weights may change without changing the world; `STARTS` is no such picture."""


def read_index(folder: Path) -> dict:
    """What `WorldModel.save_pretrained` wrote of a world beside its networks; ValueError for another schema."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    _check_schema(index.get("schema"), folder / INDEX)
    return index


def write_manifest(folder: Path) -> str:
    """Write `manifest.json` (size and SHA-256 of every other file but notes) and return the manifest's own SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    whole = (path for path in files if path.suffix not in NOTES or path.name == STARTS)
    listed = {path.relative_to(folder).as_posix(): _digest(path) for path in whole}
    (folder / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "files": listed}, indent=2) + "\n")
    return _digest(folder / MANIFEST)["sha256"]


def verify_manifest(folder: Path) -> str:
    """Check a world's files against its manifest; returns the manifest's SHA-256. ValueError names what differs."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {MANIFEST}; a world is a folder written by WorldModel.save_pretrained"
        )
    try:
        schema, listed = read_manifest(path)
    except ValueError:
        raise ValueError(f"{path} is damaged; restore the world's folder from where it came") from None
    _check_schema(schema, path)
    for needed in (INDEX, STARTS, *(f"{part}/{file}" for part in PARTS for file in PART_FILES)):
        if needed not in listed:
            raise ValueError(f"{path} does not list {needed}; restore the world's folder from where it came")
    for name, entry in listed.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not file.is_file():
            raise ValueError(f"world file {name} is missing from {folder}; restore it from where the world came")
        if not is_as_listed(file, entry):
            raise ValueError(f"world file {file} does not match its manifest (damaged or changed); restore it")
    for part in PARTS:  # a shard index beside the weights would be read in their place
        for file in sorted((folder / part).iterdir()):
            if file.name not in PART_FILES:
                raise ValueError(f"{file} is no part of a world; remove it or restore the world's folder")
    return _digest(path)["sha256"]


def read_manifest(path: Path) -> tuple[object, dict[str, dict[str, int | str]]]:
    """The schema that a manifest names, and size and SHA-256 of each file; ValueError where it is damaged."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        rows = manifest["files"].items()
        listed = {name: {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])} for name, entry in rows}
        return manifest["schema"], listed
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is no manifest: {error}") from None


def is_as_listed(file: Path, entry: dict[str, int | str]) -> bool:
    """Whether a file has the size and the SHA-256 that `read_manifest` tells of it."""
    return file.stat().st_size == entry["bytes"] and _digest(file) == entry


def _check_schema(schema: object, path: Path) -> None:
    if schema != SCHEMA:
        raise ValueError(
            f"{path} has schema {schema!r}, this worldsim reads {SCHEMA}; install the worldsim that wrote this world"
        )


def _digest(path: Path) -> dict[str, int | str]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
