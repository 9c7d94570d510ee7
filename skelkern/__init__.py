"""Fast kernels for skeleton action recognition, as drop-in PyTorch functions."""

import torch  # noqa: F401  first, so that the compiled module shares torch's OpenMP threads

from skelkern.dispatch import explain, use
from skelkern.memory import empty_cache, reuse_memory
from skelkern.ops.block_tail import block_tail
from skelkern.ops.chamfer import chamfer_distance
from skelkern.ops.cosine_topk import cosine_topk
from skelkern.ops.cross_correlation import cross_correlation_loss
from skelkern.ops.edge_conv import edge_conv
from skelkern.ops.farthest_points import farthest_point_sample
from skelkern.ops.graph_conv import graph_conv
from skelkern.ops.gru import gru, lstm
from skelkern.ops.info_nce import info_nce
from skelkern.ops.knn import knn
from skelkern.ops.linear import linear
from skelkern.ops.ntu_skeleton import NtuRecording, parse_ntu_skeleton
from skelkern.ops.sample_clips import sample_clips
from skelkern.ops.sample_clips.times import mirror_times, nearest_times, resize_times
from skelkern.ops.temporal_conv import NormRelu, temporal_conv
from skelkern.ops.unified_downsampling import unified_downsampling
from skelkern.processes import gathered, joint_batch

__version__ = "0.1.0"

__all__ = [
    "NormRelu",
    "NtuRecording",
    "block_tail",
    "chamfer_distance",
    "cosine_topk",
    "cross_correlation_loss",
    "edge_conv",
    "empty_cache",
    "explain",
    "farthest_point_sample",
    "gathered",
    "graph_conv",
    "gru",
    "info_nce",
    "joint_batch",
    "knn",
    "linear",
    "lstm",
    "mirror_times",
    "nearest_times",
    "parse_ntu_skeleton",
    "resize_times",
    "reuse_memory",
    "sample_clips",
    "temporal_conv",
    "unified_downsampling",
    "use",
]
