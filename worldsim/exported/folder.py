"""The folder of an exported world: what lies in it, and that it is whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from worldsim.world_files import is_as_listed, read_manifest
from worldsim.worlds import EXPORTED as INDEX
from worldsim.worlds import MANIFEST

SCHEMA = 3  # the second did not tell how far the heads look back
ARRAYS = "arrays.npz"
"""Start frames and actions, and the quantiles of the noise."""
WEIGHTS = "weights.bin"
"""The weights of all graphs; what two of them share stands in it once."""
GRAPHS = ("denoise", "commit", "keep", "heads")


def graph_file(name: str) -> str:
    """The file of one of `GRAPHS`."""
    return f"{name}.onnx"


def read_folder(folder: str | Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Index and arrays of an exported world, after its files were checked against its manifest.

    FileNotFoundError where the folder is none, ValueError where it is damaged, both in one line.
    """
    folder = Path(folder).expanduser()
    if not (folder / MANIFEST).is_file() or not (folder / INDEX).is_file():
        raise FileNotFoundError(f"'{folder}' is no exported world; `worldsim export WORLD --out FOLDER` writes one")
    check_files(folder)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA:
            raise ValueError(f"its schema is {index['schema']!r}, this worldsim reads {SCHEMA}")
        with np.load(folder / ARRAYS) as arrays:
            return index, dict(arrays)
    except (ValueError, KeyError, TypeError) as error:
        anew = "`worldsim export WORLD --out FOLDER` makes it anew"
        raise ValueError(f"exported world '{folder}' cannot be read ({error}); {anew}") from None


def check_files(folder: Path) -> None:
    """ValueError in one line unless every file is as the manifest says and none that is needed is missing."""
    try:
        _, listed = read_manifest(folder / MANIFEST)
    except ValueError:
        raise ValueError(f"'{folder / MANIFEST}' is damaged; export the world again") from None
    for name in (INDEX, ARRAYS, WEIGHTS, *map(graph_file, GRAPHS)):
        file = folder / name
        if name not in listed or not file.is_file():
            raise ValueError(f"exported world '{folder}' lacks {name}; export it again")
        if not is_as_listed(file, listed[name]):
            raise ValueError(f"'{file}' does not match its manifest (damaged or changed); export the world again")
