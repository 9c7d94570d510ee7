"""Skeletons as data: joints, bones, centre, mirror pairs and parts, from YAML files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
LANDMARKS = "landmarks.yaml"  # what joints' names mean, see `skelssl.skeletons.convert`
MIRROR = {"left_": "right_", "right_": "left_"}


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints; joint numbers are positions in `joints`.

    Attributes:
        name: its file's name.
        joints: names; those that begin with left_ and right_ are each other's mirror images.
        parents: (V) parent of each joint, the centre its own.
        parts: named groups of joints.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    parts: dict[str, tuple[int, ...]]

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @cached_property
    def centre(self) -> int:
        """The joint that every path of parents leads to."""
        return next(joint for joint, parent in enumerate(self.parents) if joint == parent)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) of every joint but the centre."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if joint != parent)

    @cached_property
    def degrees(self) -> tuple[int, ...]:
        """(V) number of bones at each joint: its degree centrality in the graph."""
        ends = [joint for bone in self.bones for joint in bone]
        return tuple(ends.count(joint) for joint in range(self.num_joints))

    @cached_property
    def mirror_order(self) -> tuple[int, ...]:
        """(V) for each joint its mirror image: left and right change places."""
        return tuple(self.joints.index(_mirrored(name)) for name in self.joints)

    def joint(self, name: str) -> int:
        """The number of a joint.

        Raises:
            ValueError: this skeleton has no joint of that name.
        """
        if name not in self.joints:
            raise ValueError(f"skeleton {self.name!r}: expected one of {', '.join(self.joints)}, found {name!r}")
        return self.joints.index(name)


def names() -> tuple[str, ...]:
    """Skeletons that come with the library."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml") if path.name != LANDMARKS))


def get(name: str | Path) -> Skeleton:
    """A skeleton of the library by name, or a user's own from a YAML file.

    Raises:
        ValueError: no such skeleton, or the file does not describe one.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"skeleton: expected one of {', '.join(names())} or a YAML file, found {str(name)!r}")
    try:
        return _parse(path.stem, yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(name: str, data: Any) -> Skeleton:
    keys = {"joints", "parents", "parts"}
    if not isinstance(data, dict) or set(data) != keys:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"expected the keys {', '.join(sorted(keys))}, found {found}")
    joints = tuple(data["joints"])
    if len(set(joints)) != len(joints):
        raise ValueError("joints: a name occurs twice")
    for mentioned in [
        *data["parents"],
        *data["parents"].values(),
        *(j for part in data["parts"].values() for j in part),
    ]:
        if mentioned not in joints:
            raise ValueError(f"{mentioned!r} is not among the joints")
    for joint in joints:
        if _mirrored(joint) not in joints:
            raise ValueError(f"{joint!r} has no mirror image {_mirrored(joint)!r}")
    parents = tuple(joints.index(data["parents"].get(joint, joint)) for joint in joints)
    _check_tree(joints, parents)
    parts = {part: tuple(joints.index(joint) for joint in members) for part, members in data["parts"].items()}
    return Skeleton(name, joints, parents, parts)


def _check_tree(joints: tuple[str, ...], parents: tuple[int, ...]) -> None:
    roots = [joint for joint, parent in enumerate(parents) if joint == parent]
    if len(roots) != 1:
        raise ValueError(f"expected one joint without a parent, found {[joints[root] for root in roots]}")
    for joint in range(len(joints)):
        place = joint
        for _ in joints:
            place = parents[place]
        if place != roots[0]:
            raise ValueError(f"the parents of {joints[joint]!r} go round in a circle")


def _mirrored(name: str) -> str:
    for side, other in MIRROR.items():
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name
