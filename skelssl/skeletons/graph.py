"""Adjacency matrices of a skeleton in ST-GCN's partitions (Yan et al., AAAI 2018, section 3.4)."""

import numpy as np

from skelssl.skeletons import Skeleton

PARTITIONS = ("uniform", "distance", "spatial", "spatial-official")


def hop_distances(skeleton: Skeleton) -> np.ndarray:
    """(V, V) number of bones between any two joints."""
    joints = skeleton.num_joints
    hops = np.full((joints, joints), joints)
    np.fill_diagonal(hops, 0)
    for child, parent in skeleton.bones:
        hops[child, parent] = hops[parent, child] = 1
    for middle in range(joints):
        hops = np.minimum(hops, hops[:, middle, None] + hops[None, middle])
    return hops


def adjacency(skeleton: Skeleton, partition: str = "spatial", max_hop: int = 1) -> np.ndarray:
    """(K, V, V) float32 adjacency from joint v (row) to joint w (column); the columns of its sum over K add up to 1.

    Args:
        skeleton: the joints and their tree.
        partition: "uniform": K = 1, all joints within max_hop; "distance": K = max_hop + 1, by number of bones;
            "spatial": K = 1 + 2 · max_hop, the joint itself, and for each distance the joints farther from the centre
            than the target (or as far) and those nearer to it; "spatial-official": the same by the distances of
            ST-GCN's code and those that follow it, which know the centre only max_hop bones around: all joints beyond
            are equally far from it, and both directions of their bones are in the subset of the farther ones.
        max_hop: neighbours are joints at most so many bones away.

    Raises:
        ValueError: unknown partition, or max_hop below 1.
    """
    if partition not in PARTITIONS:
        raise ValueError(f"partition: expected one of {', '.join(PARTITIONS)}, found {partition!r}")
    if max_hop < 1:
        raise ValueError(f"max_hop: expected at least 1, found {max_hop}")
    hops = hop_distances(skeleton)
    near = hops <= max_hop
    normalised = near / near.sum(axis=0, keepdims=True)
    if partition == "uniform":
        subsets = [near]
    elif partition == "distance":
        subsets = [hops == distance for distance in range(max_hop + 1)]
    else:
        to_centre = hops[skeleton.centre]
        if partition == "spatial-official":
            to_centre = np.minimum(to_centre, max_hop + 1)
        farther = to_centre[:, None] >= to_centre[None, :]
        subsets = [hops == 0]
        for distance in range(1, max_hop + 1):
            subsets += [(hops == distance) & farther, (hops == distance) & ~farther]
    return np.stack([normalised * subset for subset in subsets]).astype(np.float32)


def directed_adjacency(skeleton: Skeleton) -> np.ndarray:
    """(3, V, V) float32 adjacency of 2s-AGCN (Shi et al., CVPR 2019) from joint v (row) to joint w (column): the joint
    itself, its parent, its children, each subset divided by itself so that its columns add up to 1, or to 0 where there
    is no such joint."""
    joints = skeleton.num_joints
    parents, children = np.zeros((2, joints, joints))
    for child, parent in skeleton.bones:
        parents[parent, child] = children[child, parent] = 1
    subsets = np.stack([np.eye(joints), parents, children])
    return (subsets / subsets.sum(axis=1, keepdims=True).clip(min=1)).astype(np.float32)
