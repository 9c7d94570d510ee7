"""The recurrent encoder of ISC (Thoker et al., ACM MM 2021): a bidirectional GRU on frames as vectors."""

from typing import cast

import torch
from torch import Tensor, nn

from skelkern import gru
from skelkern.nn import GRU
from skelssl.encoders.clips import check_clips
from skelssl.skeletons import Skeleton


class BiGRU(nn.Module):
    """A stack of bidirectional GRU layers, and of the last one the state in which each direction ends.

    A frame is the vector of its joints, their coordinates, and of these every person. state_dict keys are those of
    ISC's code below `encoder.`; in its files they follow `module.encoder_q.encoder.`.

    Args:
        skeleton: joints.
        in_channels: C of the clips.
        persons: M of the clips.
        hidden_size: H of a direction.
        layers: of the stack.
        official_stepping: the second direction runs forward in time as well, which is what ISC's official code
            computes: it calls the layers one frame at a time. Weights trained by it need this.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        in_channels: int = 3,
        persons: int = 2,
        hidden_size: int = 1024,
        layers: int = 3,
        official_stepping: bool = False,
    ):
        super().__init__()
        self.in_channels, self.joints, self.persons = in_channels, skeleton.num_joints, persons
        self.feature_dim = 2 * hidden_size
        self.official_stepping = official_stepping
        size = skeleton.num_joints * in_channels * persons
        self.gru = GRU(size, hidden_size, layers, bidirectional=True, batch_first=True)
        initialise_matrices(self)

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> features (N, F), F = 2H: the first direction's state, then the second one's.

        Raises:
            ValueError: the clips have another shape.
        """
        check_clips(clips, self.in_channels, self.joints, self.persons)
        frames = clips.permute(0, 2, 3, 1, 4).flatten(2)
        if self.official_stepping:
            weights = cast(list[Tensor], self.gru._flat_weights)
            _, states = gru(frames, None, weights, bidirectional=True, reverse=False, batch_first=True)
        else:
            _, states = self.gru(frames)
        return torch.cat((states[-2], states[-1]), dim=1)


def initialise_matrices(module: nn.Module) -> None:
    """Xavier-uniform for every matrix among the parameters, as ISC and HiCo do; all else keeps torch's initialisation.

    The gates' weights are one matrix each.
    """
    for parameter in module.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
