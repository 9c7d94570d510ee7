"""Clips as clouds of points, for an encoder of clouds (SCC, Yang et al., ICCV 2021)."""

from torch import Tensor, nn

from skelssl.encoders.clips import check_clips
from skelssl.encoders.dgcnn import DGCNN
from skelssl.skeletons import Skeleton


class CloudEncoder(nn.Module):
    """`DGCNN` on the cloud of all joints of all frames and persons of a clip.

    Source: SCC, section 3.1. Joints of an absent person are points at the origin.

    Args:
        skeleton: joints.
        in_channels: C of the clips, coordinates of a point.
        feature_dim: F.
        k: neighbours of a point.
    """

    def __init__(self, skeleton: Skeleton, in_channels: int = 3, feature_dim: int = 1024, k: int = 20):
        super().__init__()
        self.in_channels, self.joints, self.k = in_channels, skeleton.num_joints, k
        self.feature_dim = feature_dim
        self.dgcnn = DGCNN(in_channels, feature_dim, k)

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> features (N, F).

        Raises:
            ValueError: the clips have another shape, or fewer points than a point has neighbours.
        """
        check_clips(clips, self.in_channels, self.joints)
        points = clips.flatten(2).transpose(1, 2)
        if points.shape[1] < self.k:
            raise ValueError(f"clips: expected at least k={self.k} points, found {points.shape[1]}")
        features: Tensor = self.dgcnn(points)
        return features
