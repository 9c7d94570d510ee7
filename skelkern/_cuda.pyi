"""The GPU's kernels; addresses are of contiguous arrays of the device, queues are of `skelkern.cuda_kernels.queue`."""

def built_for() -> str: ...
def knn(
    points: int, mask: int, sizes: tuple[int, ...], queue: tuple[int, int], workspace: int, neighbors: int
) -> None: ...
def knn_workspace(sizes: tuple[int, ...]) -> int: ...
def farthest_points(
    points: int, mask: int, sizes: tuple[int, ...], start: int, queue: tuple[int, int], workspace: int, picks: int
) -> None: ...
def farthest_points_workspace(sizes: tuple[int, ...]) -> int: ...
def chamfer_forward(
    arrays: tuple[int, ...], sizes: tuple[int, ...], squared: bool, queue: tuple[int, int], nearest: tuple[int, ...]
) -> None: ...
def chamfer_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    squared: bool,
    queue: tuple[int, int],
    nearest: tuple[int, ...],
    distance_gradients: tuple[int, ...],
    gradients: tuple[int, ...],
) -> None: ...
def edge_conv_partials(sizes: tuple[int, ...]) -> int: ...
def edge_conv_reverse(sizes: tuple[int, ...]) -> int: ...
def edge_conv_gather(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    queue: tuple[int, int],
    points: int,
    edges: tuple[int, ...],
    counts: int,
    statistics: tuple[int, ...],
) -> None: ...
def edge_conv_finish(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    queue: tuple[int, int],
    tail: tuple[int, ...],
    negative_slope: float,
    counts: int,
    extremes: int,
    y: int,
) -> None: ...
def edge_conv_reduce(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    queue: tuple[int, int],
    tail: tuple[int, ...],
    negative_slope: float,
    counts: int,
    extremes: int,
    y_gradient: int,
    hits: int,
    workspace: int,
    sums: int,
) -> None: ...
def edge_conv_backward(
    arrays: tuple[int, ...],
    sizes: tuple[int, ...],
    queue: tuple[int, int],
    tail: tuple[int, ...],
    negative_slope: float,
    edges: tuple[int, ...],
    passed: tuple[int, ...],
    workspace: int,
    gradients: int,
) -> None: ...
def sample_clips(
    arrays: tuple[int, ...], frames_are_bfloat16: bool, sizes: tuple[int, ...], queue: tuple[int, int], clips: int
) -> None: ...
