"""An encoder on another data set than its own, whose joints become those that it knows."""

from dataclasses import replace

import numpy as np

from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.protocols import finetune, knn, linear
from skelssl.protocols.context import Context, EvaluationError
from skelssl.protocols.results import Result
from skelssl.skeletons.convert import convert_layout

SAME = ("preprocessing", "units")


def run(context: Context) -> list[Result]:
    """Linear classification and retrieval on the target, of frozen features."""
    other = _of_target(context)
    return _told(context, other, linear.run(other) + knn.run(other))


def run_finetuned(context: Context) -> list[Result]:
    """The whole network trained with the target's labels; untrained: from fresh weights."""
    other = _of_target(context)
    return _told(context, other, finetune.run(other))


def _of_target(context: Context) -> Context:
    if context.target is None:
        raise EvaluationError("target: expected a store to transfer to, found none")
    return transferred(context, context.target, *context.target_splits)


def _told(context: Context, other: Context, results: list[Result]) -> list[Result]:
    """Results and predictions under names that say where they are from."""
    context.predictions |= {f"transfer {name}": array for name, array in other.predictions.items()}
    assert context.target is not None
    note = describe_conversion(context.target, context.store)
    return [replace(row, protocol=f"transfer {row.protocol}", note=row.note or note) for row in results]


def transferred(context: Context, target: Store, train: str = "train", test: str = "test") -> Context:
    """The context of a run on another data set; its protocols are called as on the run's own.

    Args:
        context: of the run on its own data set.
        target: the other one, of the same preprocessing and units.
        train, test: splits of the target.

    Raises:
        EvaluationError: the target's preprocessing, units or channels are others.
    """
    for name in SAME:
        expected, found = (getattr(store.header, name) for store in (context.store, target))
        if found != expected:
            raise EvaluationError(
                f"{target.path}: expected {name} {expected!r}, as the run's data have, found {found!r}"
            )
    store = as_layout(target, context.store)
    evaluation = replace(context.recipe.evaluation, validation=())
    recipe = replace(context.recipe, evaluation=evaluation)
    return Context(context.run, recipe, store, train, test, context.pretrained_on, context.device)


def as_layout(store: Store, like: Store) -> Store:
    """A store with the joints and number of persons of another, in memory; persons beyond those are left out.

    Raises:
        EvaluationError: the channels are others.
    """
    persons, _, channels = like.frames.shape[1:]
    if store.frames.shape[3] != channels:
        raise EvaluationError(f"{store.path}: expected {channels} channels, found {store.frames.shape[3]}")
    src, dst = (skeletons.get(each.header.skeleton) for each in (store, like))
    frames = np.asarray(store.frames)[:, :persons]
    if src.joints != dst.joints:
        frames = convert_layout(frames, src, dst).points.astype(np.float32)
    if frames.shape[1] < persons:
        frames = np.concatenate(
            (frames, np.zeros_like(frames[:, :1]).repeat(persons - frames.shape[1], axis=1)), axis=1
        )
    return replace(store, frames=frames, header=replace(store.header, skeleton=like.header.skeleton))


def describe_conversion(store: Store, like: Store) -> str:
    """Which joints of the encoder's layout the target lacks, and which of its own are lost."""
    src, dst = (skeletons.get(each.header.skeleton) for each in (store, like))
    if src.joints == dst.joints:
        return ""
    found = convert_layout(np.zeros((1, src.num_joints, 3), np.float32), src, dst)
    missing, lost = (", ".join(joints) or "none" for joints in (found.missing, found.lost))
    return f"{src.name} as {dst.name}: missing {missing}; lost {lost}"
