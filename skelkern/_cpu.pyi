"""The compiled module; addresses are of contiguous float32 arrays (`csrc/bindings_cpu.cpp`)."""

import numpy as np
from numpy.typing import NDArray

def level() -> str: ...
def vendor() -> str: ...
def compiler() -> str: ...
def block_tail_statistics(x: int, sizes: tuple[int, ...], threads: int, mean: int, variance: int) -> None: ...
def block_tail_forward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], dropout: float, seed: int, relu: bool, threads: int, y: int
) -> None: ...
def block_tail_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    dropout: float,
    seed: int,
    relu: bool,
    threads: int,
    through_statistics: bool,
    y: int,
    y_gradient: int,
    gradients: tuple[int, ...],
) -> None: ...
def chamfer_forward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], squared: bool, threads: int, nearest: tuple[int, ...]
) -> None: ...
def chamfer_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    squared: bool,
    threads: int,
    nearest: tuple[int, ...],
    distance_gradients: tuple[int, ...],
    gradients: tuple[int, ...],
) -> None: ...
def cosine_topk(
    queries: int, database: int, sizes: tuple[int, ...], threads: int, similarities: int, indices: int
) -> None: ...
def cross_correlation_forward(
    z1: int,
    z2: int,
    n: int,
    d: int,
    off_diagonal_weight: float,
    eps: float,
    statistics: int,
    products: int,
    threads: int,
) -> float: ...
def cross_correlation_backward(
    z1: int,
    z2: int,
    n: int,
    d: int,
    off_diagonal_weight: float,
    statistics: int,
    products: int,
    loss_gradient: float,
    gradient1: int,
    gradient2: int,
    threads: int,
) -> None: ...
def edge_conv_gather(
    arrays: tuple[int, ...], sizes: tuple[int, ...], threads: int, edges: tuple[int, ...], moments: int
) -> int: ...
def edge_conv_finish(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    threads: int,
    tail: tuple[int, ...],
    negative_slope: float,
    extremes: int,
    y: int,
) -> None: ...
def edge_conv_reduce(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    threads: int,
    tail: tuple[int, ...],
    negative_slope: float,
    extremes: int,
    y_gradient: int,
    sums: int,
) -> None: ...
def edge_conv_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    threads: int,
    tail: tuple[int, ...],
    negative_slope: float,
    edges: tuple[int, ...],
    y_gradient: int,
    means: int,
    x_gradient: int,
    weight_gradient: int,
) -> None: ...
def farthest_points(points: int, mask: int, sizes: tuple[int, ...], start: int, threads: int, picks: int) -> None: ...
def graph_conv_forward(
    x: int, weight: int, bias: int, adjacency: int, sizes: tuple[int, ...], per_sample: bool, threads: int, y: int
) -> None: ...
def graph_conv_backward(
    x: int,
    weight: int,
    bias: int,
    adjacency: int,
    sizes: tuple[int, ...],
    per_sample: bool,
    threads: int,
    y_gradient: int,
    gradients: tuple[int, ...],
) -> None: ...
def gru_forward(
    arrays: tuple[int, ...],
    weights: tuple[int, ...],
    sizes: tuple[int, ...],
    order: tuple[bool, bool],
    threads: int,
    results: tuple[int, ...],
) -> None: ...
def gru_backward(
    arrays: tuple[int, ...],
    weights: tuple[int, ...],
    sizes: tuple[int, ...],
    order: tuple[bool, bool],
    threads: int,
    results: tuple[int, ...],
    incoming: tuple[int, ...],
    slopes: int,
    gradients: tuple[int, ...],
) -> None: ...
def info_nce(
    query: int,
    positives: int,
    queue: int,
    sizes: tuple[int, ...],
    temperature: float,
    mean_log: bool,
    threads: int,
    loss: int,
    query_gradient: int,
    positive_weights: int,
) -> None: ...
def knn(points: int, mask: int, sizes: tuple[int, ...], threads: int, neighbors: int) -> None: ...
def linear_forward(
    arrays: tuple[int, ...],
    strides: tuple[int, ...],
    sizes: tuple[int, ...],
    relu: bool,
    threads: int,
    y: int,
) -> None: ...
def linear_backward(
    arrays: tuple[int, ...],
    strides: tuple[int, ...],
    sizes: tuple[int, ...],
    relu: bool,
    threads: int,
    y: int,
    y_gradient: int,
    masked: int,
    gradients: tuple[int, ...],
) -> None: ...
def temporal_conv_forward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], threads: int, y: int, mean: int, variance: int
) -> None: ...
def temporal_conv_backward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], threads: int, y_gradient: int, gradients: tuple[int, ...]
) -> None: ...

NtuArrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
NtuResult = tuple[NtuArrays | None, int, str, bytes, int]

def parse_ntu_text(text: bytes, coordinates_only: bool) -> NtuResult: ...
def parse_ntu_files(paths: list[bytes], coordinates_only: bool, threads: int) -> list[NtuResult]: ...
def sample_clips(
    arrays: tuple[int, ...], frames_are_bfloat16: bool, sizes: tuple[int, ...], threads: int, clips: int
) -> bool: ...
def unified_downsampling_forward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], eps: float, threads: int, y: int
) -> None: ...
def unified_downsampling_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    eps: float,
    threads: int,
    y_gradient: int,
    gradients: tuple[int, ...],
) -> None: ...
def kept_array(shape: tuple[int, ...]) -> NDArray[np.float32]: ...
def free_kept_memory() -> None: ...
def reuse_memory(on: bool) -> bool: ...
def result_bytes() -> int: ...
def scratch_bytes() -> int: ...
def multiply_add(iterations: int, threads: int) -> float: ...
