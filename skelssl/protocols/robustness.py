"""Test sequences with lost joints or frames, noise, or turned: the linear classifier learnt on whole ones.

PSTL's practical evaluation (Zhou et al., AAAI 2023), for every method: what is lost becomes 0, or is taken out of the
graph or the cloud where an encoder can do without.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from skelssl import skeletons
from skelssl.data.loading import gather_frames
from skelssl.data.preprocessings import UPWARDS
from skelssl.encoders.stgcn import STGCN
from skelssl.methods.scc import CloudStreams
from skelssl.protocols.context import ENCODERS, Context
from skelssl.protocols.features import BATCH
from skelssl.protocols.results import Result
from skelssl.skeletons import Skeleton
from skelssl.views.augment import SequenceBatch, degrees, rotation_matrices, sample_views
from skelssl.views.draws import Draws

PROTOCOL, VIEW = "robustness", "damage"
Change = Callable[[SequenceBatch], SequenceBatch]


@dataclass(frozen=True)
class Damage:
    """One level of one kind of damage.

    Attributes:
        setting: its kind.
        level: how strong; None where that is no number.
        changes: one for each draw, of a batch of sequences whose frames are its own.
        kept: (V') joints that the encoder gets, for each draw; None: all.
    """

    setting: str
    level: float | None
    changes: tuple[Change, ...]
    kept: tuple[Tensor | None, ...]


def run(context: Context) -> list[Result]:
    """Accuracy at every level of every damage, mean and deviation over draws."""
    skeleton = skeletons.get(context.store.header.skeleton)
    removable = can_remove(context.encoders["trained"][0])
    rows = []
    for damage in damages(context, skeleton):
        if any(kept is not None for kept in damage.kept) and not removable:
            note = "not possible: the encoder takes all joints"
            rows += context.not_possible(PROTOCOL, note, setting=damage.setting, level=damage.level, epochs="last")
        else:
            correct = _correct(context, skeleton, damage)
            rows += context.results(PROTOCOL, correct, setting=damage.setting, level=damage.level, epochs="last")
    return rows


def damages(context: Context, skeleton: Skeleton) -> Iterator[Damage]:
    """All kinds of damage at all levels of the recipe."""
    options, stream = context.recipe.evaluation.robustness, context.recipe.method_options.stream
    seed = context.recipe.training.seed
    draws = [Draws(seed, number) for number in range(options.draws)]
    orders = [each.permutation(VIEW, "joints", skeleton.num_joints) for each in draws]
    for count in options.joints:
        if count < skeleton.num_joints:
            yield from _lost_joints("joints", float(count), [order[:count] for order in orders], skeleton, stream)
    for name, joints in skeleton.parts.items():
        if len(joints) < skeleton.num_joints:
            yield from _lost_joints(f"{name.replace('_', ' ')}", None, [torch.tensor(joints)], skeleton, stream)
    for share in options.frames:
        for setting, lose in (("frames zeroed", zero_frames), ("frames removed", remove_frames)):
            yield _everywhere(setting, share, [_bound(lose, share, each) for each in draws])
    for deviation in options.noise:
        yield _everywhere("noise", deviation, [_bound(add_noise, deviation, each) for each in draws])
    if context.store.frames.shape[3] >= 3:
        axis = UPWARDS.get(context.store.header.preprocessing, "y")
        for angle in options.turns:
            yield _everywhere("turned by degrees", angle, [_bound(turn, sign * angle, axis) for sign in (1, -1)])


def _everywhere(setting: str, level: float, changes: list[Change]) -> Damage:
    return Damage(setting, level, tuple(changes), (None,) * len(changes))


def _lost_joints(
    what: str, level: float | None, lost: list[Tensor], skeleton: Skeleton, stream: str
) -> Iterator[Damage]:
    """The joints of every draw zeroed, and removed."""
    changes = tuple(_bound(zero_joints, joints) for joints in lost)
    yield Damage(f"{what} zeroed", level, changes, (None,) * len(lost))
    yield Damage(f"{what} removed", level, changes, tuple(_remaining(joints, skeleton, stream) for joints in lost))


def _remaining(lost: Tensor, skeleton: Skeleton, stream: str) -> Tensor:
    """(V') joints that are left; a bone is lost with either of its ends."""
    gone = torch.zeros(skeleton.num_joints, dtype=torch.bool)
    gone[lost] = True
    if stream == "bone":
        gone |= gone[torch.tensor(skeleton.parents)]
        if gone.all():
            gone[skeleton.centre] = False
    return (~gone).nonzero()[:, 0]


def _bound(function: Callable[..., SequenceBatch], *arguments: object) -> Change:
    return lambda batch: function(batch, *arguments)


def zero_joints(batch: SequenceBatch, joints: Tensor) -> SequenceBatch:
    """Joints at the origin in all frames."""
    frames = batch.frames.clone()
    frames[:, :, joints] = 0
    return replace(batch, frames=frames)


def zero_frames(batch: SequenceBatch, share: float, draws: Draws) -> SequenceBatch:
    """A share of each sequence's frames 0, at random; at least one stays."""
    lost = lost_frames(batch, share, draws)
    return replace(batch, frames=batch.frames.masked_fill(lost[:, None, None, None], 0))


def remove_frames(batch: SequenceBatch, share: float, draws: Draws) -> SequenceBatch:
    """As `zero_frames`, but the sequences become shorter."""
    kept = ~lost_frames(batch, share, draws)
    counts = torch.cat((torch.zeros(1, dtype=torch.int64), kept.cumsum(0)))
    return replace(batch, frames=batch.frames[kept], offsets=counts[batch.offsets])


def lost_frames(batch: SequenceBatch, share: float, draws: Draws) -> Tensor:
    """(F) which frames are lost: round(share · length) of each sequence, all but one at most."""
    lengths, longest = batch.lengths, int(batch.lengths.max())
    order = draws.uniform(batch.samples, VIEW, "frames", (longest,))
    beyond = torch.arange(longest) >= lengths[:, None]
    rank = order.masked_fill(beyond, torch.inf).argsort(dim=1).argsort(dim=1)
    count = (share * lengths).round().minimum(lengths - 1)
    return (rank < count[:, None])[~beyond]


def add_noise(batch: SequenceBatch, deviation: float, draws: Draws) -> SequenceBatch:
    """Normal noise on every coordinate of every joint; persons who are absent from a frame stay so."""
    frames, longest = batch.frames.clone(), int(batch.lengths.max())
    _, persons, joints, channels = frames.shape
    noise = draws.normal(batch.samples, VIEW, "noise", (longest, persons, joints, min(channels, 3)))
    own = noise[torch.arange(longest) < batch.lengths[:, None]]
    there = frames.flatten(2).any(dim=2)[:, :, None, None]
    frames[..., :3] += deviation * own * there
    return replace(batch, frames=frames)


def turn(batch: SequenceBatch, angle: float, axis: str) -> SequenceBatch:
    """All points turned about the vertical axis by an angle in degrees."""
    about = torch.tensor([[float(name == axis.removeprefix("-")) for name in "xyz"]])
    frames = batch.frames.clone()
    frames[..., :3] = frames[..., :3] @ rotation_matrices(degrees(angle * about))[0]
    return replace(batch, frames=frames)


def can_remove(encoder: nn.Module) -> bool:
    """Whether an encoder takes clips of fewer joints."""
    return isinstance(encoder, STGCN | CloudStreams)


def _encoded(encoder: nn.Module, clips: Tensor, kept: Tensor | None) -> Tensor:
    """Features of clips, without the joints that are not kept."""
    if kept is None:
        return encoder(clips)
    return encoder(clips, kept.to(clips.device)) if isinstance(encoder, STGCN) else encoder(clips[..., kept, :])


def _correct(context: Context, skeleton: Skeleton, damage: Damage) -> dict[str, np.ndarray]:
    """(repeats, S) which test samples are classified correctly, by encoder.

    Every draw meets one untrained encoder, in turn, and every encoder a draw: all pairs would cost five times as much.
    """
    correct: dict[str, list[np.ndarray]] = {name: [] for name in ENCODERS}
    draws = len(damage.changes)
    for draw, (change, kept) in enumerate(zip(damage.changes, damage.kept, strict=True)):
        clips = [
            _damaged(context, skeleton, change, part) for part in torch.from_numpy(context.samples[1]).split(BATCH)
        ]
        for name in ENCODERS:
            count = len(context.encoders[name])
            for pair in range(draw, max(draws, count), draws):
                correct[name].append(_right(context, name, pair % count, clips, kept))
    return {name: np.stack(rows) for name, rows in correct.items()}


def _damaged(context: Context, skeleton: Skeleton, change: Change, samples: Tensor) -> Tensor:
    """(B, C, T, V, M) clips of damaged sequences."""
    frames, offsets = gather_frames(context.store, samples)
    batch = change(SequenceBatch(frames, offsets, samples, torch.arange(len(samples))))
    options = context.recipe.method_options
    return sample_views(batch, [options.plain_view(batch.lengths)], options.stream, skeleton)[0]


@torch.no_grad()
def _right(context: Context, name: str, number: int, clips: list[Tensor], kept: Tensor | None) -> np.ndarray:
    """(S) whether the classifier of an encoder is right about clips."""
    encoder, classifier = context.encoders[name][number], context.classifiers[name][number]
    features = torch.cat([_encoded(encoder, part.to(context.device), kept).cpu() for part in clips])
    scaled = context.scaled(context.features[name][number][0], features)[1]
    predicted = (scaled @ classifier.weight + classifier.bias).argmax(dim=1)
    return (predicted == context.labels[1]).numpy().astype(np.float64)
