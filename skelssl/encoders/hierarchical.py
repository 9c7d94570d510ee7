"""The hierarchical encoder of HiCo (Dong et al., AAAI 2023): clips of frames and parts of bodies at several levels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skelkern import linear
from skelkern.nn import GRU, LSTM, Dropout, Linear, UnifiedDownsampling
from skelssl.encoders.bigru import initialise_matrices
from skelssl.encoders.clips import check_clips
from skelssl.skeletons import Skeleton

SequenceEncoder = Callable[[int], nn.Module]
"""Makes, for a width D, a module that maps sequences (N, L, D) of any length L to (N, L, D'), with D' as its attribute
`feature_dim`."""


class _OneLayer(nn.Module):
    """One bidirectional recurrent layer.

    Args:
        width: D; D' = D, or D - 1 where D is odd.
    """

    def __init__(self, width: int):
        super().__init__(width, width // 2, batch_first=True, bidirectional=True)
        self.feature_dim = 2 * (width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D')."""
        found: Tensor = super().forward(x)[0]
        return found


class GRUSequence(_OneLayer, GRU):  # type: ignore[misc]
    """A layer of `skelkern.nn.GRU`."""


class LSTMSequence(_OneLayer, LSTM):  # type: ignore[misc]
    """A layer of `skelkern.nn.LSTM`."""


class SelfAttention(nn.Module):
    """Self-attention of several heads (Vaswani et al., NeurIPS 2017); parameters are named as in torch's module.

    Args:
        width: D.
        heads: of D / heads channels each.
        dropout: probability of a weight to become 0.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D)."""
        n, length, width = x.shape
        mapped = linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = mapped.view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.training and self.dropout.p > 0:
            scores = (query * (width // self.heads) ** -0.5) @ key.transpose(2, 3)
            found = self.dropout(scores.softmax(dim=3)) @ value
        else:
            found = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(found.transpose(1, 2).reshape(n, length, width))


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each followed by its residual and a normalisation.

    Parameters are named as in `torch.nn.TransformerEncoderLayer`.

    Args:
        width: D.
        heads: of the attention.
        dropout: of the attention's weights and of what either part adds.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.self_attn = SelfAttention(width, heads, dropout)
        self.linear1 = Linear(width, width, activation="relu")
        self.linear2 = Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D)."""
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(self.linear1(x)))))


class TransformerSequence(nn.Module):
    """One layer without positional encoding.

    Args:
        width: D, which the heads divide; D' = D.
        heads: of the attention.
        dropout: see `TransformerLayer`.
    """

    def __init__(self, width: int, heads: int = 4, dropout: float = 0.1):
        super().__init__()
        if width % heads != 0:
            raise ValueError(f"width: expected a multiple of {heads} heads, found {width}")
        self.feature_dim = width
        self.layers = nn.ModuleList([TransformerLayer(width, heads, dropout)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D)."""
        for layer in self.layers:
            x = layer(x)
        return x


SEQUENCE_ENCODERS: dict[str, SequenceEncoder] = {
    "gru": GRUSequence,
    "lstm": LSTMSequence,
    "transformer": TransformerSequence,
}


class HierarchicalEncoder(nn.Module):
    """Two branches, on a clip's frames and on its joints as tokens, each at several levels of granularity.

    A branch embeds its tokens, and halves their number from level to level by unified down-sampling. At every level the
    branch's sequence encoder, the same for all of them, runs over the tokens, and the maximum over positions is the
    level's feature. All matrices start Xavier-uniform, those of a sequence encoder from elsewhere too.

    Source: Dong et al., section 3; state_dict keys are those of HiCo's code, which follow `encoder_q.hi_encoder.` in
    its files.

    Args:
        skeleton: joints.
        in_channels: C of the clips.
        persons: M of the clips.
        frames: T of the clips: a joint's token holds all its frames.
        width: D of the tokens.
        levels: G, their number.
        sequence_encoder: "gru", "lstm", "transformer", or what makes another one; see `SequenceEncoder`. It is called
            once for each branch.

    Raises:
        ValueError: no such sequence encoder, or one without `feature_dim`, or too few frames or joints for so many
            levels.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        in_channels: int = 3,
        persons: int = 2,
        frames: int = 64,
        width: int = 512,
        levels: int = 4,
        sequence_encoder: str | SequenceEncoder = "transformer",
    ):
        super().__init__()
        joints = skeleton.num_joints
        shortest = min(frames, persons * joints)
        if levels < 1 or shortest < 2 ** (levels - 1):
            raise ValueError(f"levels: expected at least 1 and at most {shortest.bit_length()}, found {levels}")
        make = _found(sequence_encoder)
        self.in_channels, self.joints, self.persons, self.frames = in_channels, joints, persons, frames
        self.levels_count = levels
        self.t_embedding = _embedding(persons * joints * in_channels, width)
        self.s_embedding = _embedding(frames * in_channels, width)
        self.t_downsample = UnifiedDownsampling(width)
        self.s_downsample = UnifiedDownsampling(width)
        self.t_encoder = make(width)
        self.s_encoder = make(width)
        of_level = getattr(self.t_encoder, "feature_dim", None)
        if not isinstance(of_level, int):
            kind = type(self.t_encoder).__name__
            raise ValueError(f"sequence_encoder: expected a module with an int attribute feature_dim, found {kind}")
        self.feature_dim = 2 * levels * of_level
        initialise_matrices(self)

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> features (N, F): all levels of the frames, then all levels of the joints.

        Raises:
            ValueError: the clips have another shape.
        """
        return torch.cat([branch.flatten(1) for branch in self.levels(clips)], dim=1)

    def levels(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """The features of all levels, the finest first.

        Args:
            clips: (N, C, T, V, M).

        Returns:
            Those of the frames (N, G, D') and of the joints (N, G, D').

        Raises:
            ValueError: the clips have another shape.
        """
        check_clips(clips, self.in_channels, self.joints, self.persons, self.frames)
        in_time = clips.permute(0, 2, 4, 3, 1).flatten(2)
        in_space = clips.permute(0, 4, 3, 2, 1).flatten(3).flatten(1, 2)
        return (
            self._branch(in_time, self.t_embedding, self.t_downsample, self.t_encoder),
            self._branch(in_space, self.s_embedding, self.s_downsample, self.s_encoder),
        )

    def _branch(self, x: Tensor, embedding: nn.Module, downsample: nn.Module, encoder: nn.Module) -> Tensor:
        """x (N, L, *) -> (N, G, D')."""
        x = embedding(x)
        features = [encoder(x).amax(dim=1)]
        for _ in range(self.levels_count - 1):
            x = downsample(x)
            features.append(encoder(x).amax(dim=1))
        return torch.stack(features, dim=1)


def _embedding(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(Linear(size, width), nn.LayerNorm(width), nn.ReLU(inplace=True), Linear(width, width))


def _found(sequence_encoder: str | SequenceEncoder) -> SequenceEncoder:
    if not isinstance(sequence_encoder, str):
        return sequence_encoder
    if sequence_encoder not in SEQUENCE_ENCODERS:
        names = ", ".join(map(repr, SEQUENCE_ENCODERS))
        raise ValueError(f"sequence_encoder: expected one of {names} or a function, found {sequence_encoder!r}")
    return SEQUENCE_ENCODERS[sequence_encoder]
