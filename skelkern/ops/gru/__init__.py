"""GRU and LSTM of any number of layers in one or two directions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from skelkern.autocast import follow_autocast
from skelkern.checks import check_alike, check_number, check_shape, check_tensor
from skelkern.dispatch import MEASURED_LEVEL, Implementation, Op, cpu_kernel_why_not, register_op, runs_anything
from skelkern.ops.gru import layer, reference
from skelkern.ops.gru.packing import Frames, Sequences, lay_out

States = tuple[Tensor, ...]  # h, and c of an LSTM


def gru(
    x: Sequences,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    bidirectional: bool = False,
    reverse: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    impl: str = "auto",
) -> tuple[Any, Tensor]:
    """The layers of `torch.nn.GRU`.

    The input parts of a layer's gates are one product over all frames, as are the weights' gradients; between them
    every chunk of sequences runs through time on its own, in either direction, with the recurrent weights in cache.
    Frames beyond a sequence's length are not computed.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014, in torch's form, which
    applies the reset gate behind the recurrent product.

    Args:
        x: (T, N, C), (N, T, C) with batch_first, or a PackedSequence.
        h0: (L·D, N, H), the states before the first frames, layer by layer, or None for zeros.
        weights: the parameters of `torch.nn.GRU` in its order: of every layer and direction the input weight (3H, C or
            D·H), the recurrent weight (3H, H) and, in all of them or none, input and recurrent bias (3H).
        lengths: int64 (N) from 1 to T, in any order, or None where all sequences have T frames.
        bidirectional: whether there are two directions (D = 2).
        reverse: whether the second direction runs from a sequence's last frame to its first. If not it runs forward as
            well: so does a bidirectional layer that is called frame by frame with its states carried along.
        batch_first: whether x and the result are (N, T, *).
        dropout: probability of an element to become 0 between layers, by torch's generator; applied wherever it is
            above 0.
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

    Returns:
        y, as x with D·H channels, 0 beyond a sequence's length, and the states (L·D, N, H) after each sequence's end;
        differentiable by x, h0 and the weights.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices do not fit, or a length is out of range.
    """
    states = None if h0 is None else {"h0": h0}
    y, (h,) = _layers(GRU, x, states, weights, lengths, bidirectional, reverse, batch_first, dropout, impl)
    return y, h


def lstm(
    x: Sequences,
    state: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    bidirectional: bool = False,
    reverse: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    impl: str = "auto",
) -> tuple[Any, tuple[Tensor, Tensor]]:
    """The layers of `torch.nn.LSTM`; all as in `skelkern.gru`, but for 4H rows of weights and the cell states.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997, in torch's form.

    Args:
        x: (T, N, C), (N, T, C) with batch_first, or a PackedSequence.
        state: (h0, c0), (L·D, N, H) each, or None for zeros.
        weights: the parameters of `torch.nn.LSTM` in its order, without projections.
        lengths: as in `skelkern.gru`.
        bidirectional: as in `skelkern.gru`.
        reverse: as in `skelkern.gru`.
        batch_first: as in `skelkern.gru`.
        dropout: as in `skelkern.gru`.
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

    Returns:
        y and (h, c), as in `skelkern.gru`.

    Raises:
        TypeError, ValueError: as in `skelkern.gru`.
    """
    states = None if state is None else dict(zip(("h0", "c0"), state, strict=True))
    y, (h, c) = _layers(LSTM, x, states, weights, lengths, bidirectional, reverse, batch_first, dropout, impl)
    return y, (h, c)


def runs_kernel(name: str, *tensors: Tensor | None) -> bool:
    """Whether "auto" means the kernel for the tensors of a call of the function `name`."""
    return {"gru": GRU, "lstm": LSTM}[name].choose("auto", *tensors) is layer.layer


def _layers(
    op: Op,
    x: Sequences,
    states: dict[str, Tensor] | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    bidirectional: bool,
    reverse: bool,
    batch_first: bool,
    dropout: float,
    impl: str,
) -> tuple[Sequences, States]:
    directions = 2 if bidirectional else 1
    check_number("dropout", dropout, 0, 1)
    n = _check_input(x, lengths, batch_first)
    data, *weights = follow_autocast(x.data if isinstance(x, PackedSequence) else x, *weights)
    count = _check_weights(op, data, weights, directions)
    first = _check_states(op, data, states, (count * directions, n, weights[1].shape[1]))
    run = op.choose(impl, data, *first, *weights, x.batch_sizes if isinstance(x, PackedSequence) else lengths)
    if data.numel() == 0 or weights[1].numel() == 0:
        run = _reference
    frames = lay_out(x, data, lengths, batch_first)
    inputs = tuple(map(frames.sort, first))
    y, last = _run_layers(run, frames, inputs, _by_layer(weights, count), batch_first, reverse, dropout)
    return frames.restore(y, x), tuple(map(frames.unsort, last))


def _by_layer(weights: Sequence[Tensor], layers: int) -> list[reference.Weights]:
    """Of each layer: input and recurrent weights and biases of its directions, None for biases that are not there."""
    each = len(weights) // layers
    rows: list[reference.Weights] = [tuple(weights[i * each : (i + 1) * each]) for i in range(layers)]
    if weights[2:3] and weights[2].dim() == 1:
        return rows
    return [tuple(w for i in range(0, each, 2) for w in (*row[i : i + 2], None, None)) for row in rows]


def _run_layers(
    run: Any,
    frames: Frames,
    states: States,
    weights: list[reference.Weights],
    batch_first: bool,
    reverse: bool,
    dropout: float,
) -> tuple[Tensor, States]:
    y, last = frames.data, []
    directions = states[0].shape[0] // len(weights)
    for i, own in enumerate(weights):
        if i > 0 and dropout > 0:
            y = torch.nn.functional.dropout(y, dropout)
        h0, c0 = (*(state[i * directions :][:directions] for state in states), None)[:2]
        y, *after = run(y, h0, c0, own, frames.starts, batch_first, reverse)
        last.append(after)
    return y, tuple(torch.cat(parts) for parts in zip(*last, strict=True) if parts[0] is not None)


def _check_input(x: Any, lengths: Tensor | None, batch_first: bool) -> int:
    """Returns the number of sequences."""
    if isinstance(x, PackedSequence):
        if lengths is not None:
            raise ValueError("lengths: expected None with a PackedSequence, which has its own, found a tensor")
        return int(x.batch_sizes[0])
    sizes: dict[str, int] = {}
    check_tensor("x", x)
    check_shape("x", x, "N T C" if batch_first else "T N C", sizes)
    if sizes["T"] == 0:
        raise ValueError(f"x: expected at least one frame, found shape {tuple(x.shape)}")
    if lengths is not None:
        check_tensor("lengths", lengths, (torch.int64,))
        check_shape("lengths", lengths, "N", sizes)
    return sizes["N"]


GATES = {"gru": 3, "lstm": 4}


def _check_weights(op: Op, data: Tensor, weights: Sequence[Tensor], directions: int) -> int:
    """Returns the number of layers."""
    check_alike(x=data, **{f"weights[{i}]": weight for i, weight in enumerate(weights)})
    each = directions * (4 if len(weights) > 2 and weights[2].dim() == 1 else 2)
    if len(weights) == 0 or len(weights) % each != 0:
        raise ValueError(f"weights: expected {each} tensors for every layer, found {len(weights)}")
    check_shape("weights[1]", weights[1], "rows H", {})
    hidden = weights[1].shape[1]
    rows, channels = GATES[op.name] * hidden, data.shape[-1]
    for i, weight in enumerate(weights):
        place = i % (each // directions)
        into = channels if i < each else directions * hidden
        check_shape(f"weights[{i}]", weight, (f"{rows} {into}", f"{rows} {hidden}", f"{rows}", f"{rows}")[place], {})
    return len(weights) // each


def _check_states(op: Op, data: Tensor, states: dict[str, Tensor] | None, shape: tuple[int, ...]) -> States:
    """The states in the dtype of the layers, zeros where there are none."""
    names = ("h0", "c0")[: GATES[op.name] - 2]
    if states is None:
        return tuple(data.new_zeros(shape) for _ in names)
    for name, state in zip(names, follow_autocast(*states.values()), strict=True):
        check_alike(x=data, **{name: state})
        check_shape(name, state, " ".join(map(str, shape)), {})
    return tuple(follow_autocast(*states.values()))


def _reference(x: Tensor, *rest: Any) -> reference.Layer:
    with torch.autocast(x.device.type, enabled=False):
        return reference.layer(x, *rest)


def _torchs_gru_is_as_fast(*tensors: Tensor | None) -> tuple[str, ...]:
    """Reasons, measured on 2 cores, for which torch's layers are used; tensors: x, then states where they are given.

    None while a compiler traces, which would unroll torch's layers into every frame's operations.
    """
    if torch.compiler.is_compiling():
        return ()
    if MEASURED_LEVEL not in ("avx2", "avx512"):
        return ("torch's layers are as fast on this processor",)
    x, h0, *_ = (*tensors, None, None)
    if x is None or len(tensors) == 1:
        return ()
    if x.shape[:-1].numel() < SMALLEST:
        return (f"torch's layers are as fast below {SMALLEST} frames",)
    if x.dim() == 3 and h0 is not None and h0.dim() == 3 and x.shape[:-1].numel() == h0.shape[1]:
        return ("torch's layers are as fast for a single frame of every sequence",)
    return ()


def _torchs_lstm_is_as_fast(*tensors: Tensor | None) -> tuple[str, ...]:
    """The same for an LSTM: torch's, of oneDNN, has no packed form, and is slower in backward only."""
    if torch.compiler.is_compiling():
        return ()
    if MEASURED_LEVEL != "avx512":
        return ("torch's LSTM is as fast on this processor",)
    given = [tensor for tensor in tensors if tensor is not None]
    packed = any(tensor.dtype == torch.int64 for tensor in given)  # lengths, or sizes of batches
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    if len(tensors) > 1 and not packed and not gradients:
        return ("torch's LSTM is as fast without gradients",)
    return _torchs_gru_is_as_fast(*tensors)


SMALLEST = 16

GRU, LSTM = (
    register_op(
        name,
        Implementation("cpu", layer.layer, cpu_kernel_why_not, slower),
        Implementation("reference", _reference, runs_anything),
    )
    for name, slower in (("gru", _torchs_gru_is_as_fast), ("lstm", _torchs_lstm_is_as_fast))
)
