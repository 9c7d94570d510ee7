"""Layouts of joints as text: what a skeleton's YAML file may say, and what is wrong with one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

LARGEST_FILE = 64 * 1024  # bytes; those of the library have two thousand
SIDES = ("left_", "right_")
ROLES = ("head", "left_shoulder", "right_shoulder", "left_hip", "right_hip", "spine_base", "spine_middle")
KEYS = ("joints", "parents", "edges", "centre", "mirror", "parts", "roles")


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints; joint numbers are positions in `joints`.

    Attributes:
        name: its file's name.
        joints: names.
        parents: (V) parent of each joint, the centre its own.
        parts: named groups of joints, none in two of them.
        mirror: (left, right) joints that are each other's mirror images.
        roles: joints that stand for one of ROLES under another name.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    parts: dict[str, tuple[int, ...]]
    mirror: tuple[tuple[int, int], ...] = ()
    roles: dict[str, int] = field(default_factory=dict)

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
        """(V) for each joint its mirror image: left and right change places, others stay."""
        order = list(range(self.num_joints))
        for left, right in self.mirror:
            order[left], order[right] = right, left
        return tuple(order)

    def joint(self, name: str) -> int:
        """The number of a joint.

        Raises:
            ValueError: this skeleton has no joint of that name.
        """
        if name not in self.joints:
            raise ValueError(f"skeleton {self.name!r}: expected one of {', '.join(self.joints)}, found {name!r}")
        return self.joints.index(name)

    def has_role(self, role: str) -> bool:
        """Whether `role(role)` names a joint."""
        return role in self.roles or role in self.joints

    def role(self, role: str) -> int:
        """The joint that is the body's `role`, one of ROLES: as the layout's file says, or the joint of that name.

        Raises:
            ValueError: no joint is.
        """
        if not self.has_role(role):
            raise ValueError(
                f"skeleton {self.name!r}: expected a joint that is the {role}, found none of that name; "
                f"its file can name one, such as roles: {{{role}: {self.joints[0]}}}"
            )
        return self.roles[role] if role in self.roles else self.joints.index(role)


def parse_layout(name: str, text: str) -> Skeleton:
    """A skeleton from the text of its file, see "Skeletons" in docs/data.md.

    Raises:
        ValueError: the text does not describe one; says what was expected and what was found.
    """
    data = _mapping("the file", _load(text))
    _check_keys(data)
    joints = tuple(_names("joints", data["joints"]))
    if not joints:
        raise ValueError("joints: expected at least one, found none")
    _refuse_twice("joints", joints)
    parents = _parents(joints, data["parents"]) if "parents" in data else _from_edges(joints, data)
    mirror = _mirror_pairs(joints, data["mirror"]) if "mirror" in data else _sides_by_name(joints)
    parts = _parts(joints, data["parts"]) if "parts" in data else _chains(joints, parents)
    return Skeleton(name, joints, parents, parts, mirror, _roles(joints, data.get("roles", {})))


class _Loader(yaml.SafeLoader):
    """Plain YAML: keys that come twice and aliases, which can grow without bound, are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(f"expected no aliases, found *{self.peek_event().anchor}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, count in Counter(keys).items():
            if count > 1:
                raise ValueError(f"expected every key once, found {key!r} {count} times")
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    if len(text) > LARGEST_FILE:
        raise ValueError(f"expected at most {LARGEST_FILE} characters, found {len(text)}")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"expected YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("expected YAML, found brackets within brackets without end") from None


def _check_keys(data: dict[str, Any]) -> None:
    unknown = [key for key in data if key not in KEYS]
    if unknown:
        raise ValueError(f"expected the keys {', '.join(KEYS)}, found {unknown[0]!r}")
    if "joints" not in data:
        raise ValueError("expected the key joints, found none")
    tree = [key for key in ("parents", "edges", "centre") if key in data]
    if tree not in (["parents"], ["edges", "centre"]):
        raise ValueError(f"expected either parents, or edges and centre, found {' and '.join(tree) or 'none'}")


def _parents(joints: tuple[str, ...], data: Any) -> tuple[int, ...]:
    found = _mapping("parents", data)
    numbers = {
        _number("parents", joints, joint): _number(f"parents: {joint}", joints, parent)
        for joint, parent in found.items()
    }
    parents = tuple(numbers.get(joint, joint) for joint in range(len(joints)))
    roots = [joint for joint, parent in enumerate(parents) if joint == parent]
    if len(roots) != 1:
        raise ValueError(f"expected one joint without a parent, found {[joints[root] for root in roots]}")
    for joint in range(len(joints)):
        place = joint
        for _ in joints:
            place = parents[place]
        if place != roots[0]:
            raise ValueError(f"the parents of {joints[joint]!r} go round in a circle")
    return parents


def _from_edges(joints: tuple[str, ...], data: dict[str, Any]) -> tuple[int, ...]:
    """Parents along the edges from the centre outwards."""
    neighbours: list[list[int]] = [[] for _ in joints]
    group = list(range(len(joints)))  # joints that edges connect share a number
    for one, other in _pairs("edges", joints, data["edges"]):
        if other in neighbours[one]:
            raise ValueError(f"edges: {joints[one]!r} and {joints[other]!r} are connected twice")
        if group[one] == group[other]:
            raise ValueError(
                f"edges: the one of {joints[one]!r} and {joints[other]!r} closes a circle; a skeleton is a tree"
            )
        group = [group[one] if number == group[other] else number for number in group]
        neighbours[one].append(other)
        neighbours[other].append(one)
    centre = _number("centre", joints, data["centre"])
    apart = [joint for joint, number in zip(joints, group, strict=True) if number != group[centre]]
    if apart:
        raise ValueError(f"edges: none leads from the centre {joints[centre]!r} to {', '.join(map(repr, apart))}")
    parents, order = list(range(len(joints))), [centre]
    for joint in order:
        for neighbour in neighbours[joint]:
            if neighbour != parents[joint]:
                parents[neighbour] = joint
                order.append(neighbour)
    return tuple(parents)


def _mirror_pairs(joints: tuple[str, ...], data: Any) -> tuple[tuple[int, int], ...]:
    pairs = _pairs("mirror", joints, data)
    _refuse_twice("mirror", [joints[joint] for pair in pairs for joint in pair])
    return pairs


def _sides_by_name(joints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    pairs = []
    for name in joints:
        for side, other in (SIDES, SIDES[::-1]):
            if not name.startswith(side):
                continue
            image = other + name.removeprefix(side)
            if image not in joints:
                raise ValueError(f"{name!r} has no mirror image {image!r}; pairs of other names are listed as mirror")
            if side == SIDES[0]:
                pairs.append((joints.index(name), joints.index(image)))
    return tuple(pairs)


def _parts(joints: tuple[str, ...], data: Any) -> dict[str, tuple[int, ...]]:
    parts, placed = {}, []
    for name, members in _mapping("parts", data).items():
        _refuse_other_than_names("parts", [name])
        parts[name] = tuple(_number(f"parts: {name}", joints, joint) for joint in _names(f"parts: {name}", members))
        placed += [joints[joint] for joint in parts[name]]
    _refuse_twice("parts", placed)
    return parts


def _chains(joints: tuple[str, ...], parents: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The centre, and every chain of joints from one where the tree branches to the next or to an end."""
    children = [
        [child for child, parent in enumerate(parents) if parent == joint != child] for joint in range(len(joints))
    ]
    centre = next(joint for joint, parent in enumerate(parents) if joint == parent)
    parts: dict[str, tuple[int, ...]] = {joints[centre]: (centre,)}
    begins = list(children[centre])
    for begin in begins:
        chain = [begin]
        while len(children[chain[-1]]) == 1:
            chain += children[chain[-1]]
        parts[joints[begin]] = tuple(chain)
        begins += children[chain[-1]]
    return parts


def _roles(joints: tuple[str, ...], data: Any) -> dict[str, int]:
    roles = _mapping("roles", data)
    for role in roles:
        if role not in ROLES:
            raise ValueError(f"roles: expected {', '.join(ROLES)}, found {role!r}")
    return {role: _number(f"roles: {role}", joints, joint) for role, joint in roles.items()}


def _pairs(what: str, joints: tuple[str, ...], data: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(data, list):
        raise ValueError(f"{what}: expected a list of pairs of joints, found {_in_short(data)}")
    pairs = []
    for pair in data:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{what}: expected pairs of joints, found {_in_short(pair)}")
        one, other = (_number(what, joints, joint) for joint in pair)
        if one == other:
            raise ValueError(f"{what}: expected two joints in a pair, found {joints[one]!r} with itself")
        pairs.append((one, other))
    return tuple(pairs)


def _number(what: str, joints: tuple[str, ...], name: Any) -> int:
    _refuse_other_than_names(what, [name])
    if name not in joints:
        raise ValueError(f"{what}: {name!r} is not among the joints")
    return joints.index(name)


def _names(what: str, data: Any) -> list[str]:
    if not isinstance(data, list):
        raise ValueError(f"{what}: expected a list of names, found {_in_short(data)}")
    _refuse_other_than_names(what, data)
    return data


def _mapping(what: str, data: Any) -> dict[Any, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{what}: expected names with values, found {_in_short(data)}")
    return data


def _refuse_other_than_names(what: str, names: Sequence[Any]) -> None:
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{what}: expected names, found {_in_short(name)}; quotes make a name of anything")


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what}: {name!r} occurs {'twice' if count == 2 else f'{count} times'}")


def _in_short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}…"
