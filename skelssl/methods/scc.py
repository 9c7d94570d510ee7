"""SCC: skeleton cloud colorization (Yang et al., ICCV 2021; with coarse colours and masks TPAMI 2023).

All joints of all frames are one cloud of points. An encoder sees it without colours, a decoder repaints it: every point
gets the colour of its place in the sequence, by time, joint or person, without being told which point is which.

No code was published, and of the papers' text only parts could be read: every point on which they were not at hand is
an option, whose line says how sure its default is (docs/scc.md).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

import skelkern
from skelkern.processes import current_batch
from skelssl.decoders.foldingnet import FoldingNet
from skelssl.encoders.dgcnn import DGCNN
from skelssl.methods.method import Method
from skelssl.skeletons import Skeleton
from skelssl.views.augment import SequenceBatch, ViewPlan, sample_views
from skelssl.views.augmentations import VERTICAL_ROTATION, Vertical, vertical_rotation
from skelssl.views.clouds import (
    Absent,
    Clouds,
    Colouring,
    Masked,
    Scale,
    cloud_colours,
    clouds,
    spread_times,
    visible_points,
)
from skelssl.views.draws import Draws

Granularity = Literal["fine", "coarse", "both"]
Loss = Literal["max_of_means", "sum_of_squares"]
EVALUATED_TOGETHER = 32  # clips whose intermediate results are in memory at once


@dataclass(frozen=True)
class SCCOptions:
    """Every choice of the method. "Recalled" is known of the ICCV paper, "open" is known of neither paper.

    Attributes:
        stream: what points are: "joint", "motion" or "bone"; the papers' are joints.
        colouring: the papers' streams T, S and P: "temporal", "spatial" or "person", for data with two persons.
        granularity: "fine": a colour for every frame or joint; "coarse": for every segment or part; "both": two
            auto-encoders, trained together, whose features are concatenated. That TPAMI has both is known, how is open.
        shared_encoder: "both" has one encoder with two decoders instead of two auto-encoders; open.
        segments: K of coarse temporal colours; open. Coarse spatial ones are those of the skeleton's parts; open.
        zero_based: the ramp runs over t / (T - 1) instead of t / T, t = 1 ... T; open.
        frames: T; recalled: 40 of NTU RGB+D, 52 of NW-UCLA.
        whole_frames: a frame is shown as it is, possibly several times, instead of interpolated between two; open.
        scale: "cloud": centred, divided by the largest coordinate; "axis": every axis to [-1, 1]; "none"; open.
        absent: what is seen of a person that is not there: "zeros", points at the origin; "masked", nothing; "repeat",
            the other person; open.
        rotation: bound in degrees of a random rotation about the vertical axis; open, none is recalled.
        vertical: that axis: "x", "y" or "z", a matter of the store's preprocessing.
        k: neighbours of DGCNN; open.
        feature_dim: F of an encoder; recalled.
        grid: rows and columns of FoldingNet's plane, near the number of points; open.
        grid_extent: half a side of the plane: 0.3 is the public auto-encoder code's; open. The larger it is, the sooner
            the decoder leaves the state in which it paints all points at one place.
        surface_channels: what comes out of FoldingNet's first fold: 3, positions, or 6, colours as well; open.
        bounded_colours: painted colours go through a sigmoid; open.
        loss: "max_of_means": the larger of both mean Euclidean distances (FoldingNet), recalled; "sum_of_squares": all
            squared distances added, which is what the public auto-encoder code has.
        colour_weight: of squared differences of colours beside those of positions; open.
        masked_ratio: share of a cloud that the encoder does not see, while all of it is to be painted (TPAMI's masked
            repainting; the ratio is open).
        masked: "points", whole "frames" or whole "joints"; open.
    """

    stream: str = "joint"
    colouring: Colouring = "temporal"
    granularity: Granularity = "fine"
    shared_encoder: bool = False
    segments: int = 4
    zero_based: bool = False
    frames: int = 40
    whole_frames: bool = True
    scale: Scale = "cloud"
    absent: Absent = "zeros"
    rotation: float = 0.0
    vertical: Vertical = "y"
    k: int = 20
    feature_dim: int = 1024
    grid: tuple[int, int] = (45, 45)
    grid_extent: float = 0.3
    surface_channels: int = 3
    bounded_colours: bool = False
    loss: Loss = "max_of_means"
    colour_weight: float = 1.0
    masked_ratio: float = 0.0
    masked: Masked = "points"

    def official(self) -> "SCCOptions":
        """The ICCV paper's method as recalled, there being no code: what depends on the data set stays."""
        kept = ("stream", "colouring", "frames", "grid", "vertical")
        return SCCOptions(**{name: getattr(self, name) for name in kept})

    def plain_view(self, lengths: Tensor) -> ViewPlan:
        """Frames spread over the whole sequence; motion is from each of them to the next."""
        times = spread_times(lengths, self.frames, self.whole_frames)
        return ViewPlan(times, torch.cat((times[:, 1:], times[:, -1:]), dim=1))

    @property
    def granularities(self) -> tuple[str, ...]:
        """The colours that are painted, each by a decoder of its own."""
        return ("fine", "coarse") if self.granularity == "both" else (self.granularity,)


class CloudStreams(nn.Module):
    """The encoder that evaluation gets: DGCNN on clips' clouds, one for each granularity unless they share it.

    Args:
        options: see `SCCOptions`.
    """

    def __init__(self, options: SCCOptions):
        super().__init__()
        count = 1 if options.shared_encoder else len(options.granularities)
        self.scale, self.absent = options.scale, options.absent
        self.feature_dim = count * options.feature_dim
        self.streams = nn.ModuleList(DGCNN(3, options.feature_dim, options.k) for _ in range(count))

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, 3, T, V, M) -> features (N, F), in evaluation mode some clips at a time."""
        whole = self.training or torch.compiler.is_exporting()  # the number of clips may be free then
        parts = (clips,) if whole else clips.split(EVALUATED_TOGETHER)
        return torch.cat([torch.cat(self.codes(clouds(part, self.scale, self.absent)), dim=1) for part in parts])

    def codes(self, seen: Clouds) -> list[Tensor]:
        """(B, F) of every stream."""
        return [stream(seen.points, seen.mask) for stream in self.streams]


class SCC(Method):
    """The method on DGCNN and FoldingNet.

    Args:
        encoder: of the same options.
        skeleton: joints, whose order is that of the colours, and parts.
        options: see `SCCOptions`.
    """

    encoder: CloudStreams
    weights: Tensor

    def __init__(self, encoder: CloudStreams, skeleton: Skeleton, options: SCCOptions = SCCOptions()):
        super().__init__()
        _check(options, skeleton)
        self.encoder, self.skeleton, self.options = encoder, skeleton, options
        self.decoders = nn.ModuleDict(
            {
                granularity: FoldingNet(
                    options.feature_dim, 6, options.grid, options.surface_channels, options.grid_extent
                )
                for granularity in options.granularities
            }
        )
        weights = [1.0] * 3 + [options.colour_weight] * 3
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self._colours: dict[tuple[str, int, torch.device], Tensor] = {}

    def views(self, batch: SequenceBatch, draws: Draws, step: int) -> tuple[Tensor, ...]:
        """Clips (B, C, T, V, M), and which points of their clouds the encoder sees (B, N') where some are masked."""
        options = self.options
        [clips] = sample_views(batch, [self._plan(batch, draws)], options.stream, self.skeleton)
        if options.masked_ratio == 0:
            return (clips,)
        frames, joints, persons = clips.shape[2:]
        sizes = (frames, joints, persons)
        return clips, visible_points(draws, batch.samples, sizes, options.masked_ratio, options.masked)

    def losses(  # type: ignore[override]
        self, clips: Tensor, visible: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`loss` of what `views` gives and those of "fine" and "coarse" colours.

        Raises:
            ValueError: sequences have no three coordinates, or "person" colours are asked for of a single person.
        """
        whole = clouds(clips, self.options.scale, self.options.absent)
        seen = whole if visible is None else whole.chosen(visible)
        losses = self._losses(whole, self.encoder.codes(seen), clips.shape[4])
        return {"loss": torch.stack(list(losses.values())).sum(), **{name: x.detach() for name, x in losses.items()}}

    def _plan(self, batch: SequenceBatch, draws: Draws) -> ViewPlan:
        plan, bound = self.options.plain_view(batch.lengths), self.options.rotation
        if bound == 0:
            return plan
        words = draws.words_of_steps(batch.samples, ["cloud"], VERTICAL_ROTATION)
        return vertical_rotation(plan, words, bound, self.options.vertical)

    def _losses(self, whole: Clouds, codes: list[Tensor], persons: int) -> dict[str, Tensor]:
        """The loss of every granularity; a shared encoder's code goes to every decoder."""
        if self.options.shared_encoder:
            codes = codes * len(self.decoders)
        return {
            granularity: self._distance(whole, decoder(code), self._cloud_colours(granularity, persons, code.device))
            for (granularity, decoder), code in zip(self.decoders.items(), codes, strict=True)
        }

    def _distance(self, whole: Clouds, painted: Tensor, colours: Tensor) -> Tensor:
        """Chamfer distance of the coloured cloud and what was painted (B, M, 6), of bfloat16 too."""
        painted = painted.to(whole.points.dtype)
        if self.options.bounded_colours:
            painted = torch.cat((painted[:, :, :3], painted[:, :, 3:].sigmoid()), dim=2)
        coloured = torch.cat((whole.points, colours.expand(len(painted), -1, -1)), dim=2)
        squared = self.options.loss == "sum_of_squares"
        distance = skelkern.chamfer_distance(
            *(coloured, painted, whole.mask),
            reduction="sum" if squared else "max_of_means",
            squared=squared,
            weights=self.weights,
        )
        assert isinstance(distance, Tensor)
        batch = current_batch()
        if squared and batch is not None:  # of all processes: their losses are weighted by their shares of samples
            distance = distance * (batch.samples / len(painted))
        return distance

    def _cloud_colours(self, granularity: str, persons: int, device: torch.device) -> Tensor:
        """(N, 3), moved to the device once."""
        key, options = (granularity, persons, device), self.options
        if key not in self._colours:
            if options.colouring == "person" and persons < 2:
                raise ValueError(f'colouring: expected at least two persons for "person", found {persons}')
            coarse = granularity == "coarse"
            segments = options.segments if coarse else None
            self._colours[key] = cloud_colours(
                *(options.colouring, self.skeleton, options.frames, persons),
                segments=segments,
                by_part=coarse,
                zero_based=options.zero_based,
            ).to(device)
        return self._colours[key]


NAMED = {
    "colouring": Colouring,
    "granularity": Granularity,
    "scale": Scale,
    "absent": Absent,
    "vertical": Vertical,
    "loss": Loss,
    "masked": Masked,
}


def _check(options: SCCOptions, skeleton: Skeleton) -> None:
    for name, names in NAMED.items():
        if getattr(options, name) not in get_args(names):
            raise ValueError(f"{name}: expected one of {', '.join(get_args(names))}, found {getattr(options, name)!r}")
    if options.frames < 1:
        raise ValueError(f"frames: expected at least 1, found {options.frames}")
    if not 1 <= options.segments <= options.frames:
        raise ValueError(f"segments: expected 1 to frames={options.frames}, found {options.segments}")
    if not 0 <= options.masked_ratio < 1:
        raise ValueError(f"masked_ratio: expected 0 to less than 1, found {options.masked_ratio}")
    if options.colour_weight < 0:
        raise ValueError(f"colour_weight: expected at least 0, found {options.colour_weight}")
    if options.colouring == "person" and options.granularity != "fine":
        raise ValueError(f'granularity: expected "fine" of "person" colours, found {options.granularity!r}')
    if options.grid_extent <= 0:
        raise ValueError(f"grid_extent: expected more than 0, found {options.grid_extent}")
    if options.surface_channels not in (3, 6):
        raise ValueError(f"surface_channels: expected 3 or 6, found {options.surface_channels}")
    visible = int((1 - options.masked_ratio) * options.frames * skeleton.num_joints)
    if options.k > visible:
        raise ValueError(f"k: expected at most the {visible} visible points of a person, found {options.k}")
