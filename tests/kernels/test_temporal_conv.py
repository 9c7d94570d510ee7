import pytest
import torch
from budget import check_budget, evaluate
from torch import nn
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.temporal_conv import reference

ALL = ("x", "weight", "bias")


@pytest.fixture(autouse=True)
def kernel():
    with skelkern.use("cpu"):
        yield


def make_inputs(n, c, t, v, c_out, kernel, bias=True, **options):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        inputs = {"x": randn(n, c, t, v), "weight": randn(c_out, c, kernel, 1), **options}
        return inputs | ({"bias": randn(c_out)} if bias else {})

    return make


# (N, C, T, V, C', kernel) with (stride, padding, dilation): single values, primes, strides that leave frames unread,
# more padding than the taps reach, a dilation that shares a factor with the stride, several blocks of frames
SHAPES = [
    ((1, 1, 1, 1, 1, 1), (1, 0, 1)),
    ((2, 3, 50, 25, 16, 9), (1, 4, 1)),
    ((3, 16, 13, 25, 20, 9), (2, 4, 1)),
    ((2, 5, 20, 7, 37, 3), (3, 2, 2)),
    ((2, 4, 21, 5, 3, 3), (2, 3, 4)),
    ((1, 2, 12, 3, 4, 1), (3, 0, 1)),
    ((1, 2, 6, 3, 4, 3), (2, 7, 1)),
    ((1, 33, 230, 25, 18, 9), (1, 4, 1)),
    ((1, 48, 150, 25, 5, 4), (2, 3, 3)),
]
# minimal filtering: results and taps that are no whole tiles and groups, more padding than the taps reach, single
# frames and joints, sums in parts, several blocks
SHAPES += [
    ((2, 20, 7, 5, 17, 3), (1, 0, 1)),
    ((2, 16, 2, 4, 33, 9), (1, 4, 1)),
    ((1, 17, 11, 1, 16, 7), (1, 9, 1)),
    ((2, 16, 1, 5, 16, 9), (1, 5, 1)),
    ((2, 150, 14, 3, 20, 8), (1, 4, 1)),
    ((1, 40, 200, 25, 70, 9), (1, 4, 1)),
]


@pytest.mark.parametrize(("shape", "steps"), SHAPES, ids=str)
def test_error_budget(shape, steps):
    stride, padding, dilation = steps
    make = make_inputs(*shape, stride=stride, padding=padding, dilation=dilation)
    check_budget(skelkern.temporal_conv, make, ALL)


def test_error_budget_without_bias():
    check_budget(skelkern.temporal_conv, make_inputs(3, 6, 9, 25, 10, 5, bias=False, padding=2), ("x", "weight"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.temporal_conv, make_inputs(2, 8, 6, 25, 12, 3, padding=1), ALL, dtype=dtype)


def normalised(x, weight, bias, gamma, beta, mean, variance, training, stride, impl="auto"):
    """temporal_conv with `norm`, its tensors as arguments of their own."""
    norm = skelkern.NormRelu(mean, variance, gamma, beta, training)
    return skelkern.temporal_conv(x, weight, bias, stride, 4, norm=norm, with_statistics=True, impl=impl)[0]


def make_normalised(training, stride=1, c=5):
    def make(seed):
        inputs = make_inputs(4, c, 21, 7, c + 6, 9, stride=stride)(seed)
        generator = torch.Generator().manual_seed(seed + 100)
        gamma, beta, mean, variance = torch.randn(4, c, generator=generator, dtype=torch.float64)
        norm = {"gamma": gamma, "beta": beta, "mean": mean, "variance": 0.5 + variance.square()}
        return {**inputs, **norm, "training": training}

    return make


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("stride", "c"), [(1, 5), (2, 5), (1, 18)])
def test_error_budget_behind_a_normalisation(training, stride, c):
    check_budget(normalised, make_normalised(training, stride, c), (*ALL, "gamma", "beta"))


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_is_torchs(training):
    arguments = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in make_normalised(training)(0).items()}
    norm = nn.BatchNorm2d(5).train(training)
    with torch.no_grad():
        for name, value in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "mean"),
            ("running_var", "variance"),
        ):
            getattr(norm, name).copy_(arguments[value])
    found = normalised(**arguments)
    source = norm(arguments["x"]).relu()
    expected = nn.functional.conv2d(source, arguments["weight"], arguments["bias"], (1, 1), (4, 0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(arguments["mean"], norm.running_mean)
    torch.testing.assert_close(arguments["variance"], norm.running_var)


@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("c", [4, 16])
def test_statistics_are_those_of_the_result(impl, c):
    inputs = {k: v.float() for k, v in make_inputs(3, c, 31, 5, c + 2, 3)(0).items()}
    y, mean, variance = skelkern.temporal_conv(**inputs, with_statistics=True, impl=impl)
    torch.testing.assert_close(mean, y.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance, y.var(dim=(0, 2, 3), correction=0))


def test_block_tail_differentiates_through_given_statistics():
    inputs = {k: v.float() for k, v in make_inputs(3, 4, 30, 5, 6, 3)(0).items()}
    weight, bias = torch.randn(6), torch.randn(6)

    def tail(given, impl, **leaves):
        y, *statistics = skelkern.temporal_conv(**leaves, with_statistics=True)
        chosen = tuple(statistics) if given else None
        kept = (torch.zeros(6), torch.ones(6))
        return skelkern.block_tail(y, *kept, weight, bias, training=True, statistics=chosen, impl=impl)

    expected = evaluate(lambda **leaves: tail(False, "auto", **leaves), inputs, ALL)
    for impl in ("cpu", "reference"):
        found = evaluate(lambda impl=impl, **leaves: tail(True, impl, **leaves), inputs, ALL)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)


def test_gradcheck_of_the_reference():
    inputs = make_inputs(2, 2, 7, 3, 2, 3)(0)
    leaves = [inputs[name].requires_grad_() for name in ALL]
    assert gradcheck(lambda *tensors: reference.temporal_conv(*tensors, 2, 1, 1), leaves)


def test_small_clips_are_left_to_torch():
    weight = torch.zeros(8, 8, 3)
    with skelkern.use("auto"):
        assert skelkern.explain(skelkern.temporal_conv, torch.zeros(2, 8, 50, 25), weight).chosen == "reference"
        assert skelkern.explain(skelkern.temporal_conv, torch.zeros(128, 8, 50, 25), weight).chosen == "cpu"


def test_opcheck_behind_a_normalisation():
    x, kernel = torch.randn(2, 3, 9, 5), torch.randn(4, 3, 3, 1)
    leaves = [tensor.requires_grad_() for tensor in (x, torch.rand(3), torch.rand(3), kernel, torch.rand(4))]
    x, gamma, beta, kernel, bias = leaves
    arguments = (x, None, None, gamma, beta, kernel, bias, 1, 1, 1, True, True, 1e-5, True)
    utilities = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.skelkern.temporal_conv_cpu.default, arguments, test_utils=utilities)


@pytest.mark.parametrize("norm", [None, skelkern.NormRelu(torch.zeros(3), torch.ones(3), training=True)])
def test_empty_batch(norm):
    inputs = {k: v.float().requires_grad_() for k, v in make_inputs(0, 3, 8, 5, 4, 3)(0).items()}
    y = skelkern.temporal_conv(**inputs, norm=norm)
    assert y.shape == (0, 4, 6, 5)
    y.sum().backward()
    assert torch.equal(inputs["weight"].grad, torch.zeros(4, 3, 3, 1))


def test_nan_reaches_the_frames_within_reach_of_a_tap():
    x, weight = torch.randn(2, 3, 20, 4), torch.randn(5, 3, 3)
    x[1, 2, 10, 3] = torch.nan
    y = skelkern.temporal_conv(x, weight, padding=1)
    assert y[1, :, 9:12, 3].isnan().all()
    assert y.isnan().sum() == 5 * 3


def test_with_minimal_filtering_nan_reaches_at_most_two_frames_more():
    x, weight = torch.randn(2, 16, 40, 3), torch.randn(16, 16, 9)
    x[1, 4, 20, 2] = torch.nan
    found = skelkern.temporal_conv(x, weight, padding=4).isnan()
    assert found[1, :, 16:25, 2].all()
    found[1, :, 14:27, 2] = False
    assert not found.any()


def test_non_contiguous_arguments():
    inputs = {k: v.float() for k, v in make_inputs(3, 4, 9, 5, 6, 3)(0).items()}
    expected = evaluate(skelkern.temporal_conv, inputs, ALL)
    strided = {**inputs, "x": inputs["x"].to(memory_format=torch.channels_last), "weight": inputs["weight"].mT.mT}
    found = evaluate(skelkern.temporal_conv, strided, ALL)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


X, WEIGHT, NORM = torch.zeros(2, 3, 8, 5), torch.zeros(4, 3, 3, 1), (torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], WEIGHT), {}, ValueError, r"x: expected shape \(N, C, T, V\), found \(3, 8, 5\)"),
        ((X, WEIGHT[:, :2]), {}, ValueError, r"weight: .* C=3.*, found \(4, 2, 3, 1\)"),
        ((X, WEIGHT.mT), {}, ValueError, r"weight: expected shape \(C', C, K, 1\)"),
        ((X, WEIGHT, torch.zeros(3)), {}, ValueError, r"bias: expected shape \(C'\) with C'=4, found \(3,\)"),
        ((X, WEIGHT.double()), {}, TypeError, "weight: expected x's dtype torch.float32, found torch.float64"),
        ((X, WEIGHT, None, 0), {}, ValueError, r"stride: expected a whole number in \[1, .*, found 0"),
        ((X, WEIGHT, None, 1, -1), {}, ValueError, "padding: expected a whole number"),
        ((X, WEIGHT, None, 1, 0, 4), {}, ValueError, "x: expected at least 9 frames with the padding, found 8"),
        ((X[..., :0], WEIGHT), {}, ValueError, r"x: expected at least one joint, found \(2, 3, 8, 0\)"),
        ((X, WEIGHT), {"norm": skelkern.NormRelu(None, None)}, ValueError, "expected running statistics when not"),
        ((X, WEIGHT), {"norm": skelkern.NormRelu(*NORM, torch.ones(3))}, ValueError, "weight and bias or neither"),
        ((X, WEIGHT), {"norm": skelkern.NormRelu(*NORM, eps=-1.0)}, ValueError, "norm.eps: expected a finite number"),
        (
            (X, WEIGHT),
            {"norm": skelkern.NormRelu(torch.zeros(4), None, training=True)},
            ValueError,
            r"norm.running_mean: expected shape \(C\) with C=3, found \(4,\)",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        skelkern.temporal_conv(*arguments, **options)
