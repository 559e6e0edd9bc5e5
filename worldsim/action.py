"""The action specification of a world: named channels, the source game's own action space and the key map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worldsim.names import did_you_mean

HELD = 0.5
"""A button counts as held from here."""
DRIVEN = "driven"
"""The value of a condition in which nothing but its further channels moves what it holds for."""
KINDS = {"button": (0.0, 1.0), "axis": (-1.0, 1.0), "pedal": (0.0, 1.0)}


@dataclass(frozen=True)
class Channel:
    """One entry of the action vector: a `button` in {0, 1}, an `axis` in [-1, 1] or a `pedal` in [0, 1]."""

    name: str
    kind: str = "button"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"channel {self.name!r} has kind {self.kind!r}; use one of {', '.join(KINDS)}")


class ActionSpec:
    """What a player or an agent can do, and the vector the network sees.

    channels: the A entries of the vector, in order.
    table:    (N, A) channel vector of each native action of a `Discrete(N)` game; None where the game's own action
              already is the channel vector (a `Box`).
    names:    one name per native action, for pictures and tables.
    keys:     channel name -> key names; an axis uses `"steer+"` and `"steer-"`.
    conditions: what holds for a whole scene: group -> its values. Each value has a button channel "group_value"; in a
              vector that names none of a group's values, the one that held before goes on (`hold`).
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        table: np.ndarray | Sequence[Sequence[float]] | None = None,
        *,
        names: Sequence[str] = (),
        keys: Mapping[str, Sequence[str]] | None = None,
        conditions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.channels = tuple(channels)
        self.table = None if table is None else np.asarray(table, dtype=np.float32)
        self.names = tuple(names)
        self.keys = {name: _key_names(name, held) for name, held in (keys or {}).items()}
        self.conditions = {group: tuple(values) for group, values in (conditions or {}).items()}
        self._check()

    @property
    def size(self) -> int:
        """A, the length of the action vector."""
        return len(self.channels)

    def space(self):
        """The source game's own action space: `Discrete(N)` or `Box` of shape (A,)."""
        from gymnasium import spaces

        return self.channel_space() if self.table is None else spaces.Discrete(len(self.table))

    def channel_space(self):
        """The space of channel vectors: `Box` of shape (A,), buttons and pedals in [0, 1], axes in [-1, 1]."""
        from gymnasium import spaces

        bounds = np.array([KINDS[channel.kind] for channel in self.channels], dtype=np.float32)
        return spaces.Box(bounds[:, 0], bounds[:, 1], dtype=np.float32)

    def encode(self, native) -> np.ndarray:
        """Channel vectors (..., A) float32 of native actions: integers (...) for Discrete, vectors (..., A) for Box.

        Raises ValueError where an action is not one of the game's.
        """
        native = np.asarray(native)
        return self.encode_channels(native) if self.table is None else self._encode_discrete(native)

    def encode_channels(self, vectors) -> np.ndarray:
        """Channel vectors (..., A) as float32, each button 0 or 1; ValueError where a shape or a range is wrong."""
        vectors = np.asarray(vectors)
        if vectors.shape[-1:] != (self.size,):
            raise ValueError(f"action has shape {vectors.shape}; this world takes (..., {self.size}): {self._listed()}")
        if vectors.dtype.kind not in "fiu":
            raise ValueError(f"action has type {vectors.dtype}; this world takes numbers: {self._listed()}")
        vectors = vectors.astype(np.float32)
        low, high = np.array([KINDS[channel.kind] for channel in self.channels], dtype=np.float32).T
        if not np.all((vectors >= low) & (vectors <= high)):
            raise ValueError(
                f"action {vectors.tolist()} leaves its range; buttons are 0 or 1, pedals 0 to 1, axes -1 to 1"
            )
        buttons = [i for i, channel in enumerate(self.channels) if channel.kind == "button"]
        vectors[..., buttons] = vectors[..., buttons] >= HELD
        return vectors

    def decode(self, vector) -> np.ndarray | int:
        """Native action nearest to the channel vector (A,): an index for Discrete, the clipped vector for Box."""
        vector = np.asarray(vector, dtype=np.float32)
        if vector.shape != (self.size,):
            raise ValueError(
                f"channel vector has shape {vector.shape}; this world has ({self.size},): {self._listed()}"
            )
        if self.table is None:
            bounds = np.array([KINDS[channel.kind] for channel in self.channels], dtype=np.float32)
            return np.clip(vector, bounds[:, 0], bounds[:, 1])
        return int(np.argmin(((self.table - vector) ** 2).sum(axis=1)))

    def vector(self, **values: float) -> np.ndarray:
        """Channel vector (A,) float32 with the named channels set and all others at rest (0)."""
        out = np.zeros(self.size, dtype=np.float32)
        for name, value in values.items():
            out[self.index(name)] = value
        return out

    def index(self, name: str) -> int:
        """Position of a channel in the vector; ValueError with the nearest name where there is none."""
        names = [channel.name for channel in self.channels]
        if name in names:
            return names.index(name)
        hint = did_you_mean(name, names)
        raise ValueError(f"unknown action channel {name!r}; {hint}this world has {self._listed()}")

    def label(self, native: int | np.ndarray) -> str:
        """What people call one of the game's own actions: its name, or the channels that are not at rest."""
        if self.table is not None:
            return self.names[int(native)] if self.names else f"action {native}"
        told = []
        for channel, value in zip(self.channels, native, strict=True):
            if channel.kind != "button" and value:
                told.append(f"{channel.name} {value:+.1f}")
            elif channel.kind == "button" and value >= HELD:
                told.append(channel.name)
        return "  ".join(told) or "rest"

    def hold(self, vectors: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Channel vectors (..., A) in which a value of each condition holds: the first that `vectors` names, else
        that of `held` (..., A), which is what this returned before."""
        out = vectors.copy()
        for group in self.conditions:
            places = self._places(group)
            named = vectors[..., places] >= HELD
            first = named & (named.cumsum(axis=-1) == 1)
            out[..., places] = np.where(named.any(axis=-1, keepdims=True), first, held[..., places])
        return out

    def condition_vector(
        self, conditions: Mapping[str, str] | None = None, held: np.ndarray | None = None
    ) -> np.ndarray:
        """Channel vector (A,) float32 at rest in which these values hold, and of other groups what holds in the vector
        `held`, without one the first value.

        ValueError in one line, with the nearest name, for a group or a value that there is not.
        """
        if conditions is not None and not isinstance(conditions, Mapping):
            raise ValueError(f"conditions={conditions!r}; give what holds by group, as {{'npc': 'timid'}}")
        firsts = {group: values[0] for group, values in self.conditions.items()}
        chosen = firsts if held is None else self.conditions_of(held)
        for group, value in dict(conditions or {}).items():
            _check_known("condition", group, self.conditions)
            _check_known(f"value of condition {group!r}:", value, self.conditions[group])
            chosen[group] = value
        return self.vector(**{f"{group}_{value}": 1.0 for group, value in chosen.items()})

    def conditions_of(self, vector: np.ndarray) -> dict[str, str]:
        """Group -> value that holds in a channel vector (A,) that `hold` or `condition_vector` gave."""
        return {group: values[int(vector[self._places(group)].argmax())] for group, values in self.conditions.items()}

    def further(self, group: str) -> set[str]:
        """Names of the channels "group_..." that are none of the condition's values, such as a driven NPC's buttons."""
        return self._belonging(group) - {f"{group}_{value}" for value in self.conditions[group]}

    def without(self, groups: Iterable[str]) -> ActionSpec:
        """These actions less some conditions and all their channels "group_...", for one who has no say in them.

        Of native actions of a `Discrete` game that are the same without them the first is left. ValueError in one line
        for a condition that there is not, or where no channel is left.
        """
        groups = tuple(groups)
        for group in groups:
            _check_known("condition", group, self.conditions)
        gone = {name for group in groups for name in self._belonging(group)}
        kept = [i for i, channel in enumerate(self.channels) if channel.name not in gone]
        if not kept:
            raise ValueError(f"nothing is left to do without {', '.join(groups)}; this world has {self._listed()}")
        table, names = self.table, self.names
        if table is not None:
            rows = np.sort(np.unique(table[:, kept], axis=0, return_index=True)[1])
            table, names = table[np.ix_(rows, kept)], [names[row] for row in rows] if names else ()
        keys = {name: held for name, held in self.keys.items() if name.rstrip("+-") not in gone}
        conditions = {group: values for group, values in self.conditions.items() if group not in groups}
        return ActionSpec([self.channels[i] for i in kept], table, names=names, keys=keys, conditions=conditions)

    def from_keys(self, held: Iterable[str]) -> np.ndarray:
        """Channel vector (A,) float32 of the key names held down; unknown keys do nothing, opposite keys cancel."""
        held = {key.lower() for key in held}
        pressed = {name for name, keys in self.keys.items() if held.intersection(keys)}
        out = np.zeros(self.size, dtype=np.float32)
        for i, channel in enumerate(self.channels):
            if channel.kind == "axis":
                out[i] = float(f"{channel.name}+" in pressed) - float(f"{channel.name}-" in pressed)
            else:
                out[i] = channel.name in pressed
        return self._cancel_opposites(out)

    def to_json(self) -> dict:
        """Plain data for `json.dump`; the inverse of `from_json`. Conditions are named only where there are some."""
        conditions = {group: list(values) for group, values in self.conditions.items()}
        return {
            "channels": [{"name": channel.name, "kind": channel.kind} for channel in self.channels],
            "table": None if self.table is None else self.table.tolist(),
            "names": list(self.names),
            "keys": {name: list(keys) for name, keys in self.keys.items()},
            **({"conditions": conditions} if conditions else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping) -> ActionSpec:
        """The specification that `to_json` wrote; ValueError where a field is missing or of the wrong form."""
        try:
            channels = [Channel(str(item["name"]), str(item["kind"])) for item in data["channels"]]
            known = {"names": data["names"], "keys": data["keys"], "conditions": data.get("conditions")}
            return cls(channels, data["table"], **known)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"action specification is damaged: {error!r}; it needs channels, table, names, keys"
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActionSpec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.channels, self.names))

    def __repr__(self) -> str:
        native = "Box" if self.table is None else f"Discrete({len(self.table)})"
        return f"ActionSpec({self._listed()}; {native})"

    def _check(self) -> None:
        names = [channel.name for channel in self.channels]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"an action specification needs channels with different names; got {names}")
        wanted = {f"{each.name}{way}" if each.kind == "axis" else each.name for each in self.channels for way in "+-"}
        if unknown := sorted(set(self.keys) - wanted):
            raise ValueError(
                f"keys are given for {', '.join(unknown)}; this world takes keys for {', '.join(sorted(wanted))}"
            )
        for group, values in self.conditions.items():
            if missing := [f"{group}_{value}" for value in values if f"{group}_{value}" not in names] or not values:
                raise ValueError(f"condition {group!r} has no channel {missing}; give each of its values one")
        if self.table is not None and (self.table.ndim != 2 or self.table.shape[1] != self.size):
            raise ValueError(f"action table has shape {self.table.shape}; it must be (actions, {self.size})")
        if self.table is not None and self.names and len(self.names) != len(self.table):
            raise ValueError(f"{len(self.names)} action names for {len(self.table)} actions; give one each")

    def _places(self, group: str) -> list[int]:
        return [self.index(f"{group}_{value}") for value in self.conditions[group]]

    def _belonging(self, group: str) -> set[str]:
        return {channel.name for channel in self.channels if channel.name.startswith(f"{group}_")}

    def _listed(self) -> str:
        return ", ".join(channel.name for channel in self.channels)

    def _encode_discrete(self, native: np.ndarray) -> np.ndarray:
        if not np.issubdtype(native.dtype, np.integer):
            raise ValueError(f"action has type {native.dtype}; this world takes integers 0..{len(self.table) - 1}")
        if native.size and (native.min() < 0 or native.max() >= len(self.table)):
            wrong = native[(native < 0) | (native >= len(self.table))].flat[0]
            raise ValueError(f"action {wrong} is not one of this world's: use 0..{len(self.table) - 1}")
        return self.table[native]

    def _cancel_opposites(self, vector: np.ndarray) -> np.ndarray:
        names = [channel.name for channel in self.channels]
        for one, other in (("up", "down"), ("left", "right")):
            if one in names and other in names:
                i, j = names.index(one), names.index(other)
                if vector[i] and vector[j]:
                    vector[i] = vector[j] = 0.0
        return vector


def _key_names(channel: str, held: Sequence[str]) -> tuple[str, ...]:
    if isinstance(held, str):
        raise ValueError(f"keys of {channel!r} are {held!r}; give a list of key names, such as [{held!r}]")
    return tuple(key.lower() for key in held)


def _check_known(kind: str, name: object, known: Iterable[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"unknown {kind} {name!r}; {hint}this world has {', '.join(known) or 'none'}")
