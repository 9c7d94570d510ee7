import pytest
import torch
from budget import check_budget, evaluate
from torch import nn
from torch.autograd import gradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import skelkern
from skelkern import _cpu
from skelkern.ops.gru import reference
from skelkern.ops.gru.packing import place_rows

LAYERS = {"gru": (skelkern.gru, nn.GRU), "lstm": (skelkern.lstm, nn.LSTM)}
both = pytest.mark.parametrize("kind", LAYERS)


@pytest.fixture(autouse=True)
def kernel():
    with skelkern.use("cpu"):
        yield


def call(kind, inputs, **options):
    """The op on states and weights by name; y, h and c of an LSTM."""
    weights = [value for name, value in inputs.items() if name.startswith("w")]
    states = inputs.get("h0") if kind == "gru" else (inputs["h0"], inputs["c0"]) if "h0" in inputs else None
    y, last = LAYERS[kind][0](inputs["x"], states, weights, **options)
    return (y, last) if kind == "gru" else (y, *last)


def function_of(kind, **fixed):
    """`call` as a function of named tensors, for the error budget."""

    def function(impl="auto", **inputs):
        return call(kind, inputs, **fixed, impl=impl)

    return function


def make_inputs(kind, shape, hidden, layers=1, directions=1, bias=True):
    """shape: of x, with N behind T."""

    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def uniform(*size):
            return (2 * torch.rand(*size, generator=generator, dtype=torch.float64) - 1) / hidden**0.5

        inputs = {"x": torch.randn(*shape, generator=generator, dtype=torch.float64)}
        for state in ("h0", "c0")[: 1 if kind == "gru" else 2]:
            inputs[state] = torch.randn(layers * directions, shape[1], hidden, generator=generator, dtype=torch.float64)
        rows = (3 if kind == "gru" else 4) * hidden
        for i in range(layers * directions):
            into = shape[2] if i < directions else directions * hidden
            sizes = [(rows, into), (rows, hidden), (rows,), (rows,)][: 4 if bias else 2]
            inputs |= {f"w{i}_{j}": uniform(*size) for j, size in enumerate(sizes)}
        return inputs

    return make


def names(make):
    return tuple(make(0))


def batch_first(make):
    return lambda seed: (inputs := make(seed)) | {"x": inputs["x"].transpose(0, 1)}


def single(make):
    return {name: value.float() for name, value in make(0).items()}


# single values, primes, several chunks of sequences and blocks of units, a deep product
SHAPES = [((1, 1, 1), 1), ((5, 7, 3), 4), ((7, 37, 19), 33), ((3, 65, 300), 50)]


@both
@pytest.mark.parametrize(("shape", "hidden"), SHAPES, ids=str)
@pytest.mark.parametrize("directions", [1, 2])
def test_error_budget(kind, shape, hidden, directions):
    make = make_inputs(kind, shape, hidden, directions=directions)
    check_budget(function_of(kind, bidirectional=directions == 2), make, names(make))


@both
@pytest.mark.parametrize("bias", [True, False])
def test_error_budget_of_layers_batch_first(kind, bias):
    make = make_inputs(kind, (6, 35, 5), 18, layers=3, directions=2, bias=bias)
    function = function_of(kind, bidirectional=True, batch_first=True)
    check_budget(function, batch_first(make), names(make))


@both
@pytest.mark.parametrize("first", [True, False])
def test_error_budget_with_lengths(kind, first):
    make = make_inputs(kind, (9, 41, 12), 20, layers=2, directions=2)
    lengths = torch.randint(1, 9, (41,), generator=torch.Generator().manual_seed(0))
    function = function_of(kind, lengths=lengths, bidirectional=True, batch_first=first)
    check_budget(function, batch_first(make) if first else make, names(make))


@both
def test_error_budget_of_saturated_gates(kind):
    make = make_inputs(kind, (4, 9, 6), 8)
    scaled = lambda seed: {name: 40 * value for name, value in make(seed).items()}  # noqa: E731
    check_budget(function_of(kind), scaled, ("x", "w0_0"))


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(kind, dtype):
    make = make_inputs(kind, (4, 9, 12), 20, directions=2)
    check_budget(function_of(kind, bidirectional=True), make, names(make), dtype=dtype)


@both
@pytest.mark.parametrize("reverse", [True, False])
def test_gradcheck_of_the_reference(kind, reverse):
    inputs = make_inputs(kind, (3, 2, 3), 2, directions=2)(0)
    states = 1 if kind == "gru" else 2

    def layer(x, h0, *rest):
        c0, weights = (None, rest) if states == 1 else (rest[0], rest[1:])
        found = reference.layer(x, h0, c0, weights, None, False, reverse)
        return tuple(value for value in found if value is not None)

    assert gradcheck(layer, [value.requires_grad_() for value in inputs.values()])


@both
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences_as_torch(kind, enforce_sorted):
    theirs = LAYERS[kind][1](6, 11, 2, bidirectional=True)
    x, lengths = torch.randn(8, 34, 6), torch.randint(1, 9, (34,))
    if enforce_sorted:
        lengths = lengths.sort(descending=True).values
    packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    states = tuple(torch.randn(4, 34, 11) for _ in range(1 if kind == "gru" else 2))
    states = states[0] if kind == "gru" else states
    y, last = LAYERS[kind][0](packed, states, theirs._flat_weights, bidirectional=True)
    expected, expected_last = theirs(packed, states)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, expected.batch_sizes)
    torch.testing.assert_close(pad_packed_sequence(y), pad_packed_sequence(expected))
    torch.testing.assert_close(last, expected_last)


@both
def test_lengths_as_torchs_packing(kind):
    theirs = LAYERS[kind][1](6, 11, bidirectional=True, batch_first=True)
    x, lengths = torch.randn(34, 8, 6, requires_grad=True), torch.randint(1, 8, (34,))
    packed, expected_last = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    expected = pad_packed_sequence(packed, batch_first=True, total_length=8)[0]
    options = {"lengths": lengths, "bidirectional": True, "batch_first": True}
    y, last = LAYERS[kind][0](x, None, theirs._flat_weights, **options)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, expected_last)
    cotangent = torch.randn(y.shape)
    leaves = [x, *theirs.parameters()]
    gradients = torch.autograd.grad(y, leaves, cotangent)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, leaves, cotangent), rtol=1e-4, atol=1e-5)
    beyond = torch.arange(8) >= lengths[:, None]
    assert (gradients[0][beyond] == 0).all()


@both
def test_padding_is_not_read(kind):
    inputs = single(make_inputs(kind, (6, 5, 4), 7, directions=2))
    lengths = torch.tensor([3, 6, 1, 5, 2])
    options = {"lengths": lengths, "bidirectional": True}
    expected = call(kind, inputs, **options)
    inputs["x"][torch.arange(6)[:, None] >= lengths] = torch.nan
    for found, value in zip(call(kind, inputs, **options), expected, strict=True):
        assert torch.equal(found, value)


@both
@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_second_direction_forward_is_a_layer_called_frame_by_frame(kind, impl):
    """The official code of ISC calls its encoder so."""
    theirs = LAYERS[kind][1](5, 9, 3, bidirectional=True, batch_first=True)
    x = torch.randn(33, 7, 5, requires_grad=True)
    state, frames = None, []
    for frame in range(7):
        y, state = theirs(x[:, frame : frame + 1], state)
        frames.append(y)
    expected = torch.cat(frames, 1)
    options = {"bidirectional": True, "reverse": False, "batch_first": True, "impl": impl}
    y, last = LAYERS[kind][0](x, None, theirs._flat_weights, **options)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, state)
    leaves, cotangent = [x, *theirs.parameters()], torch.randn(y.shape)
    found = torch.autograd.grad(y, leaves, cotangent)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, cotangent), rtol=1e-4, atol=1e-5)


@both
def test_lengths_where_both_directions_run_forward(kind):
    make = make_inputs(kind, (6, 35, 4), 7, layers=2, directions=2)
    lengths = torch.randint(1, 7, (35,), generator=torch.Generator().manual_seed(0))
    check_budget(function_of(kind, lengths=lengths, bidirectional=True, reverse=False), make, names(make))


@both
def test_gradient_of_one_argument_only(kind):
    make = make_inputs(kind, (4, 34, 5), 6, directions=2)
    inputs, function = single(make), function_of(kind, bidirectional=True)
    expected = evaluate(function, inputs, names(make))
    for name in inputs:
        alone = evaluate(function, inputs, (name,))
        assert torch.equal(alone[f"gradient of {name}"], expected[f"gradient of {name}"]), name


@both
def test_gradient_of_the_last_states_only(kind):
    inputs = single(make_inputs(kind, (4, 3, 5), 6))
    leaves = [value.requires_grad_() for value in inputs.values()]
    found = torch.autograd.grad(call(kind, inputs)[-1].sum(), leaves)
    expected = torch.autograd.grad(call(kind, inputs, impl="reference")[-1].sum(), leaves)
    torch.testing.assert_close(found, expected)


@both
def test_same_bits_for_any_thread_count(kind):
    inputs = single(make_inputs(kind, (5, 100, 30), 70, layers=2, directions=2))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(evaluate(function_of(kind, bidirectional=True), inputs, tuple(inputs)))
    finally:
        torch.set_num_threads(before)
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value), name
        assert torch.equal(found[2][name], value), name


@both
def test_strided_input(kind):
    inputs = single(make_inputs(kind, (4, 3, 5), 6))
    expected = call(kind, inputs)
    inputs["x"] = inputs["x"].transpose(0, 1).contiguous().transpose(0, 1)
    inputs["w0_0"] = inputs["w0_0"].T.contiguous().T
    for found, value in zip(call(kind, inputs), expected, strict=True):
        assert torch.equal(found, value)


@both
def test_nan_stays_in_its_sequence(kind):
    inputs = single(make_inputs(kind, (4, 20, 5), 6, directions=2))
    inputs["x"][2, 3, 1] = torch.nan
    y = call(kind, inputs, bidirectional=True)[0]
    assert y[2:, 3, :6].isnan().all()
    assert y[:3, 3, 6:].isnan().all()
    assert y.isnan().sum() == 2 * 6 + 3 * 6


@both
def test_empty_batch(kind):
    inputs = {name: value.requires_grad_() for name, value in single(make_inputs(kind, (4, 0, 5), 6)).items()}
    y, *last = call(kind, inputs)
    assert y.shape == (4, 0, 6)
    assert all(state.shape == (1, 0, 6) for state in last)
    y.sum().backward()
    assert not inputs["w0_0"].grad.any()


@both
def test_dropout_between_layers(kind):
    inputs = single(make_inputs(kind, (3, 4, 5), 64, layers=2))
    torch.manual_seed(0)
    first, second = (call(kind, inputs, dropout=0.5)[0] for _ in range(2))
    torch.manual_seed(0)
    expected = call(kind, inputs, dropout=0.5, impl="reference")[0]
    torch.testing.assert_close(first, expected)
    assert not torch.equal(first, second)
    one_layer = {name: value for name, value in inputs.items() if not name.startswith("w1")}
    one_layer = {name: value[:1] if name in ("h0", "c0") else value for name, value in one_layer.items()}
    assert torch.equal(call(kind, one_layer, dropout=0.5)[0], call(kind, one_layer)[0])


@both
def test_follows_autocast(kind):
    inputs = {name: value.requires_grad_() for name, value in single(make_inputs(kind, (3, 4, 5), 6)).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = call(kind, inputs)[0]
        assert call(kind, inputs, impl="reference")[0].dtype == torch.bfloat16
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert inputs["w0_0"].grad.dtype == torch.float32


def test_rows_are_placed_and_differentiated_any_number_of_times():
    sources, targets = torch.tensor([2, -1, 0]), torch.tensor([2, -1, 0])
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(place_rows(x, sources, targets), torch.stack((x[2], torch.zeros(2), x[0])))
    assert torch.autograd.gradgradcheck(lambda x: place_rows(x, sources, targets) ** 2, x)


def test_explain_looks_into_the_weights():
    inputs = single(make_inputs("gru", (3, 4, 5), 6))
    weights = [inputs[f"w0_{i}"] for i in range(4)]
    assert skelkern.explain(skelkern.gru, inputs["x"], None, weights).chosen == "cpu"
    reasons = skelkern.explain(skelkern.gru, inputs["x"], None, [weight.double() for weight in weights]).reasons
    assert reasons["cpu"] == ("torch.float64 is computed by the reference",)


@both
def test_torch_has_what_it_does_as_fast(kind):
    fast = _cpu.level() in {"gru": ("avx2", "avx512"), "lstm": ("avx512",)}[kind] and _cpu.vendor() == "AMD"
    module = LAYERS[kind][1](4, 5)
    x, state = torch.zeros(20, 8, 4), torch.zeros(1, 8, 5)

    def chosen(x, state):
        given = state if kind == "gru" or state is None else (state, state)
        return skelkern.explain(LAYERS[kind][0], x, given, module._flat_weights).chosen

    with skelkern.use("auto"):
        assert chosen(x, state) == chosen(x, None) == ("cpu" if fast else "reference")
        assert chosen(x[:1], state) == chosen(x[:1, :1], None) == "reference"
        with torch.no_grad():
            assert chosen(x, state) == ("cpu" if fast and kind == "gru" else "reference")


X, WEIGHTS = torch.zeros(4, 2, 3), [torch.zeros(15, 3), torch.zeros(15, 5), torch.zeros(15), torch.zeros(15)]
H0 = torch.zeros(1, 2, 5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], H0, WEIGHTS), {}, ValueError, r"x: expected shape \(T, N, C\), found \(2, 3\)"),
        ((X[:0], H0, WEIGHTS), {}, ValueError, r"x: expected at least one frame, found shape \(0, 2, 3\)"),
        ((X.long(), H0, WEIGHTS), {}, TypeError, "x: expected a floating-point tensor, found torch.int64"),
        ((X, H0[:, :1], WEIGHTS), {}, ValueError, r"h0: expected shape \(1, 2, 5\), found \(1, 1, 5\)"),
        ((X, H0.double(), WEIGHTS), {}, TypeError, "h0: expected x's dtype torch.float32, found torch.float64"),
        ((X, H0, WEIGHTS[:3]), {}, ValueError, "weights: expected 4 tensors for every layer, found 3"),
        ((X, H0, WEIGHTS), {"bidirectional": True}, ValueError, "weights: expected 8 tensors for every layer, found 4"),
        ((X, H0, []), {}, ValueError, "weights: expected 2 tensors for every layer, found 0"),
        (
            (X, H0, [WEIGHTS[0][:, :2], *WEIGHTS[1:]]),
            {},
            ValueError,
            r"weights\[0\]: expected shape \(15, 3\), found \(15, 2\)",
        ),
        (
            (X, H0, WEIGHTS),
            {"lengths": torch.zeros(2)},
            TypeError,
            "lengths: expected torch.int64, found torch.float32",
        ),
        (
            (X, H0, WEIGHTS),
            {"lengths": torch.tensor([1, 2, 3])},
            ValueError,
            r"lengths: expected shape \(N\) with N=2, found \(3,\)",
        ),
        (
            (X, H0, WEIGHTS),
            {"lengths": torch.tensor([0, 5])},
            ValueError,
            r"lengths: expected values from 1 to 4, found \[0, 5\]",
        ),
        ((X, H0, WEIGHTS), {"dropout": 1.5}, ValueError, r"dropout: expected a finite number in \[0, 1\], found 1.5"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        skelkern.gru(*arguments, **options)


def test_wrong_states_of_an_lstm_are_named():
    weights = [torch.zeros(20, 3), torch.zeros(20, 5)]
    with pytest.raises(ValueError, match=r"c0: expected shape \(1, 2, 5\), found \(1, 2, 4\)"):
        skelkern.lstm(X, (H0, H0[..., :4]), weights)


@pytest.mark.parametrize("sizes", [[1, 2], [2, 2], [2, -1, 2]])
def test_wrong_packed_sequences_are_refused(sizes):
    packed = PackedSequence(torch.zeros(3, 3), torch.tensor(sizes))
    h0 = torch.zeros(1, sizes[0], 5)
    with pytest.raises(ValueError, match=r"batch_sizes: expected .* found \["):
        skelkern.gru(packed, h0, WEIGHTS)
    with pytest.raises(ValueError, match="lengths: expected None with a PackedSequence"):
        skelkern.gru(packed, h0, WEIGHTS, lengths=torch.ones(1, dtype=torch.int64))
