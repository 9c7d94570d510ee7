"""State_dicts as the official codes have them, filled by a rule that needs no random numbers."""

import math
import zlib

import torch

from skelssl.encoders.zoo import create

PERIOD = 10007  # values of a wave, which then repeats: a prime, so that no two rows are alike
SEQUENCE, GRAPH, IMAGE = "sequence", "graph", "image"


def fill(key, shape):
    """A tensor of a parameter or buffer: a wave whose phase is the key's, at the size that networks start with."""
    if key.endswith("num_batches_tracked") or key.endswith("ptr") or "queue_ptr" in key:
        return torch.zeros(shape, dtype=torch.long)
    count = math.prod(shape)
    place = torch.arange(min(count, PERIOD), dtype=torch.float64)
    wave = torch.cos(place * 0.7 + zlib.crc32(key.encode()) % 1000).float().repeat(-(-count // PERIOD))[:count]
    if "queue" in key.lower():
        return torch.nn.functional.normalize(wave.view(shape), dim=0)
    if len(shape) > 1:
        return wave.view(shape) * (2 / math.prod(shape[1:])) ** 0.5
    if key.endswith("running_var") or ("bias" not in key and "running_mean" not in key):
        return 1 + 0.1 * wave
    return 0.1 * wave


def filled(shapes):
    """shapes by key -> tensors."""
    return {key: fill(key, tuple(shape)) for key, shape in shapes.items()}


def views(rows=4):
    """Two views (rows, 3, 64, 25, 2)."""
    wave = torch.arange(2 * rows * 3 * 64 * 25 * 2, dtype=torch.float64)
    return tuple((torch.sin(wave * 0.37) + torch.cos(wave * 0.011)).float().view(2, rows, 3, 64, 25, 2))


def hico_shapes(kind, queue=64, levels=4):
    """Of HiCo's module in pre-training, both sides."""
    own = {f"hi_encoder.{key}": value.shape for key, value in create(f"hico-{kind}", "ntu25").state_dict().items()}
    for head, width in {"clip": 512, "part": 512, "td": 2048, "sd": 2048, "instance": 4096}.items():
        own |= {f"{head}_proj.0.weight": (512, width), f"{head}_proj.0.bias": (512,)}
        own |= {f"{head}_proj.2.weight": (128, 512), f"{head}_proj.2.bias": (128,)}
    shapes = {f"{side}.{key}": shape for side in ("encoder_q", "encoder_k") for key, shape in own.items()}
    for letter, size in {"c": levels * queue, "p": levels * queue, "t": queue, "s": queue, "i": queue}.items():
        shapes |= {f"{letter}_queue": (128, size), f"{letter}_queue_ptr": (1,)}
    return shapes


def pstl_states(width):
    """Of PSTL's encoder and of its loss's projector; the encoder's graph is its own."""
    encoder = create("stgcn", "ntu25", official_partition=True).state_dict()
    filled_encoder = filled({key: value.shape for key, value in encoder.items()}) | {"A": encoder["A"]}
    shapes = {
        "projector.0.weight": (width, 256),
        "projector.3.weight": (width, width),
        "projector.6.weight": (width, width),
    }
    for layer in (1, 4):
        names = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"projector.{layer}.{name}": (width,) for name in names}
        shapes |= {f"projector.{layer}.num_batches_tracked": ()}
    return filled_encoder, filled(shapes)


def isc_shapes(first, second, queue=64):
    """Of ISC's module in pre-training, on one device."""
    shapes = {"Queue_S1": (128, queue), "Queue_S2": (128, queue), "queue_ptr_S1": (1,), "queue_ptr_S2": (1,)}
    for form, sides in ((first, ("encoder_q", "encoder_k")), (second, ("encoder_r", "encoder_l"))):
        own = form_shapes(form)
        shapes |= {f"{side}.{key}": shape for side in sides for key, shape in own.items()}
    return shapes


def form_shapes(form):
    """Of one network of ISC with its head."""
    name, inner = {SEQUENCE: ("bigru", "encoder."), GRAPH: ("agcn", ""), IMAGE: ("hcn", "")}[form]
    encoder = create(name, "ntu25")
    own = {f"{inner}{key}": value.shape for key, value in encoder.state_dict().items()}
    width = encoder.feature_dim
    head = {"fc.0.weight": (width, width), "fc.0.bias": (width,), "fc.2.weight": (128, width), "fc.2.bias": (128,)}
    return own | head
