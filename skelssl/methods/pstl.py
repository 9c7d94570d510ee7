"""PSTL: partial spatio-temporal learning (Zhou et al., AAAI 2023).

Three views of each sequence go through one encoder: an anchor, one with central joints removed (CSM) and one without
its most moving frames (MATM). A cross-correlation loss ties the anchor to either partial view.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import skelkern
from skelkern.nn import BatchNorm1d
from skelssl.methods.method import Method
from skelssl.skeletons import Skeleton
from skelssl.views.augment import SequenceBatch, ViewPlan, sample_views, whole_sequence
from skelssl.views.augmentations import (
    CROP,
    FLIP,
    ROTATION,
    SHEAR,
    Words,
    central_spatial_masking,
    crop,
    flip,
    motion_attention_masking,
    rotation,
    shear,
)
from skelssl.views.draws import Draws

VIEWS = ANCHOR, MATM, CSM = "anchor", "matm", "csm"
STEPS = {**CROP, **SHEAR, **ROTATION, **FLIP}  # words that a view draws


@dataclass(frozen=True)
class PSTLOptions:
    """Every choice of the method; the defaults are the paper's method, `official()` gives what its code computes.

    Attributes:
        stream: "joint", "motion" or "bone".
        frames: T, to which every sequence is resized.
        crop_ratio: frames / crop_ratio frames of mirror padding on both sides before the crop.
        shear: bound of the shear factors.
        main_angle, other_angle: bounds in degrees of the rotation about one main axis and about the others.
        symmetric_angles: angles of either sign.
        flip: probability of a left-right flip (joints change places, coordinates stay).
        masked_joints: joints removed for CSM.
        masked_frames: frames that MATM removes by motion, and again at random.
        off_diagonal_weight: λ of the loss.
        projector: width D of the projector's three layers.
        draws_per_batch: one draw of every augmentation for all samples of a batch, instead of one for each sample.
        repeated_joints: CSM draws from a list in which a joint stands as often as it has bones, so that it may come
            twice and fewer joints are removed.
        project_twice: project the anchor again for its second pair: the same loss, the projector's running
            statistics move once more.
        official_partition: of the encoder's graph, see `skelssl.skeletons.graph.adjacency`.
    """

    stream: str = "joint"
    frames: int = 50
    crop_ratio: int = 6
    shear: float = 1.0
    main_angle: float = 30.0
    other_angle: float = 1.0
    symmetric_angles: bool = False
    flip: float = 0.5
    masked_joints: int = 8
    masked_frames: int = 10
    off_diagonal_weight: float = 2e-4
    projector: int = 6144
    draws_per_batch: bool = False
    repeated_joints: bool = False
    project_twice: bool = False
    official_partition: bool = False

    def official(self) -> "PSTLOptions":
        """These options with every deviation of the official code from the paper."""
        return replace(self, draws_per_batch=True, repeated_joints=True, project_twice=True, official_partition=True)

    def plain_view(self, lengths: Tensor) -> ViewPlan:
        """The whole sequence, resized."""
        return whole_sequence(lengths, self.frames)


class PSTL(Method):
    """The method on any encoder that removes joints.

    Args:
        encoder: `encoder(clips, joints=None)` -> (N, F) features, with an attribute `feature_dim`.
        skeleton: joints, mirror images and degrees.
        options: see `PSTLOptions`.
    """

    mirror_order: Tensor
    degrees: Tensor

    def __init__(self, encoder: nn.Module, skeleton: Skeleton, options: PSTLOptions = PSTLOptions()):
        super().__init__()
        _check(options, skeleton)
        self.encoder = encoder
        self.skeleton = skeleton
        self.options = options
        self.register_buffer("mirror_order", torch.tensor(skeleton.mirror_order), persistent=False)
        self.register_buffer("degrees", torch.tensor(skeleton.degrees), persistent=False)
        features: Any = encoder.feature_dim
        width = options.projector
        self.projector = nn.Sequential(
            nn.Linear(features, width, bias=False),
            BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width, bias=False),
            BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width, bias=False),
        )

    def views(self, batch: SequenceBatch, draws: Draws, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, T, V, M) anchor, view without its most moving frames and partial view, and its joints."""
        own = torch.full_like(batch.samples, step) if self.options.draws_per_batch else batch.samples
        anchor, moving, partial = self.augmented_views(batch, draws, own)
        masked_joints, repeated = self.options.masked_joints, self.options.repeated_joints
        still = motion_attention_masking(moving, draws, own, self.options.masked_frames, MATM)
        key = batch.samples.new_tensor([step])
        kept = central_spatial_masking(self.degrees, draws, key, masked_joints, repeated, CSM)
        return anchor, still, partial, kept

    def losses(  # type: ignore[override]
        self, anchor: Tensor, still: Tensor, partial: Tensor, kept: Tensor
    ) -> dict[str, Tensor]:
        """`loss` of what `views` gives and its parts `matm` and `csm`."""
        return self._pairs(self.encoder(anchor), self.encoder(still), self.encoder(partial, kept))

    def why_views_vary(self) -> str | None:
        """Drawn with repetition, not always as many joints remain."""
        return "pstl.repeated_joints" if self.options.repeated_joints else None

    def _pairs(self, anchor: Tensor, still: Tensor, partial: Tensor) -> dict[str, Tensor]:
        """The losses of features (B, F)."""
        again = [anchor] if self.options.project_twice else []
        z_anchor, z_still, *z_again, z_partial = self._project([anchor, still, *again, partial])
        weight = self.options.off_diagonal_weight
        matm = skelkern.cross_correlation_loss(z_anchor, z_still, weight)
        csm = skelkern.cross_correlation_loss(z_again[0] if again else z_anchor, z_partial, weight)
        return {"loss": matm + csm, MATM: matm.detach(), CSM: csm.detach()}

    def _project(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """The projections of all views, of all processes' samples: products are shared, batch statistics are those of
        each view, in order."""
        x, rows = torch.cat(views), views[0].shape[0]
        for layer in self.projector:
            if isinstance(layer, nn.Linear):
                x = skelkern.linear(x, layer.weight, layer.bias)
            elif isinstance(layer, nn.BatchNorm1d):
                x = torch.cat([layer(view) for view in x.split(rows)])
            else:
                x = layer(x)
        return tuple(skelkern.gathered(view) for view in x.split(rows))

    def augmented_views(self, batch: SequenceBatch, draws: Draws, own: Tensor) -> tuple[Tensor, ...]:
        """The three views (B, C, T, V, M) before anything is masked; `own` (B) keys the draws of each sample."""
        lengths = batch.lengths.repeat(len(VIEWS))
        plan = self._plan(lengths, draws.words_of_steps(own, VIEWS, STEPS))
        return sample_views(batch, [plan], self.options.stream, self.skeleton)

    def _plan(self, lengths: Tensor, words: Words) -> ViewPlan:
        """Crop, shear, rotation about one main axis, left-right flip."""
        options = self.options
        plan = shear(crop(lengths, words, options.frames, options.crop_ratio), words, options.shear)
        plan = rotation(plan, words, options.main_angle, options.other_angle, options.symmetric_angles)
        return flip(plan, words, self.mirror_order, options.flip)


def _check(options: PSTLOptions, skeleton: Skeleton) -> None:
    if not 0 <= options.masked_joints < skeleton.num_joints:
        raise ValueError(
            f"masked_joints: expected less than the skeleton's {skeleton.num_joints}, found {options.masked_joints}"
        )
    if options.masked_frames < 0 or 2 * options.masked_frames >= options.frames:
        raise ValueError(
            f"masked_frames: expected less than half of frames={options.frames}, found {options.masked_frames}"
        )
