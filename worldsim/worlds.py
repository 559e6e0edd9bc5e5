"""The shipped worlds: their names and folders."""

from importlib.resources import files
from pathlib import Path

from worldsim.names import did_you_mean

MANIFEST = "manifest.json"
EXPORTED = "exported.json"
"""The file that tells a world that `worldsim export` wrote."""


def list_worlds() -> list[str]:
    """Names of the shipped worlds, sorted."""
    root = _root()
    return sorted(entry.parent.name for entry in root.glob(f"*/{MANIFEST}")) if root.is_dir() else []


def world_path(name: str | Path) -> Path:
    """Folder of a world. name: a shipped world ("boxing") or a world folder of one's own, which holds a manifest.

    ValueError for an unknown name; FileNotFoundError for a path that is missing or is no world.
    """
    shipped = list_worlds()
    if str(name) in shipped:
        return _root() / str(name)
    folder = Path(name).expanduser()
    if (folder / EXPORTED).is_file():
        raise ValueError(
            f"'{folder}' is an exported world; play it as gymnasium's worldsim/Exported-v0, or give its source"
        )
    if (folder / MANIFEST).is_file():
        return folder
    if folder.is_dir():
        raise FileNotFoundError(
            f"folder '{folder}' is no world: it has no {MANIFEST}; give one that save_pretrained() wrote"
        )
    if len(folder.parts) > 1:
        raise FileNotFoundError(f"there is no world folder '{folder}'; give a folder that save_pretrained() wrote")
    hint = did_you_mean(name, shipped, cutoff=0.5)
    known = ", ".join(shipped) or "none"
    raise ValueError(f"unknown world '{name}'; {hint}shipped worlds: {known}; or give the path of a world folder")


def _root() -> Path:
    return Path(str(files("worldsim_envs") / "worlds"))
