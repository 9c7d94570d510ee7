import pytest
import torch
from budget import check_budget
from cases import skeleton_adjacency
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.graph_conv import reference

ALL = ("x", "weight", "bias", "adjacency")


def make_inputs(n, c, t, v, c_out, k=3, kind="skeleton", bias=True):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        batch = (n,) if kind.endswith("per sample") else ()
        sparse = kind.startswith("skeleton")
        adjacency = skeleton_adjacency(v, generator, *batch).double() if sparse else randn(*batch, k, v, v)
        biases = randn(k * c_out) if bias else None
        return {"x": randn(n, c, t, v), "weight": randn(k * c_out, c), "bias": biases, "adjacency": adjacency}

    return make


# (N, C, T, V, C'): single values, primes, whole and partial vectors, several blocks of rows, channels and joints
SHAPES = [
    *((1, 1, 1, 1, 1), (5, 5, 2, 3, 2), (2, 3, 50, 25, 16), (3, 16, 13, 25, 16), (2, 17, 7, 20, 53)),
    *((1, 64, 37, 25, 130), (1, 5, 3, 133, 7)),
]
KINDS = ["skeleton", "dense", "skeleton per sample", "dense per sample"]
SMALL = [
    ((1, 1, 1, 1, 1), "dense per sample"),
    ((2, 7, 1, 25, 16), "skeleton"),
    ((2, 3, 2, 17, 5), "skeleton per sample"),
    ((1, 35, 1, 1, 67), "dense"),
    ((1, 2, 1, 37, 3), "skeleton"),
]
LARGE = [pytest.param(shape, kind, marks=pytest.mark.large) for shape in SHAPES for kind in KINDS]


@pytest.mark.parametrize(("shape", "kind"), [*SMALL, *LARGE], ids=str)
def test_error_budget(shape, kind):
    check_budget(skelkern.graph_conv, make_inputs(*shape, kind=kind), ALL)


def of_both_sizes(name, small, large):
    """A size that Triton's interpreter gets through, and another."""
    return pytest.mark.parametrize(name, [small, pytest.param(large, marks=pytest.mark.large)], ids=str)


@of_both_sizes("shape", (2, 6, 1, 11, 10), (3, 6, 9, 25, 10))
def test_error_budget_without_bias(shape):
    check_budget(skelkern.graph_conv, make_inputs(*shape, bias=False), ("x", "weight", "adjacency"))


def test_error_budget_at_any_magnitude():
    def make(seed):
        inputs = make_inputs(1, 5, 1, 4, 3, kind="dense")(seed)
        return inputs | {"x": inputs["x"] * 2.0**60, "weight": inputs["weight"] * 2.0**-60}

    check_budget(skelkern.graph_conv, make, ALL)


@pytest.mark.parametrize("k", [1, 2, pytest.param(33, marks=pytest.mark.large)])
def test_any_number_of_subsets(k):
    check_budget(skelkern.graph_conv, make_inputs(2, 4, 2, 7, 6, k=k, kind="dense"), ALL)


@of_both_sizes("frames", 1, 6)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, frames):
    check_budget(skelkern.graph_conv, make_inputs(2, 8, frames, 25, 12), ALL, dtype=dtype)


@pytest.mark.parametrize("kind", ["dense", "dense per sample"])
def test_gradcheck_of_the_reference(kind):
    inputs = make_inputs(2, 2, 3, 4, 2, k=2, kind=kind)(0)
    assert gradcheck(reference.graph_conv, tuple(tensor.requires_grad_() for tensor in inputs.values()))


def test_reference_is_the_textbook_formula():
    x = torch.tensor([1.0, 10.0]).reshape(1, 1, 1, 2)
    weight = torch.tensor([[2.0], [3.0]])  # two subsets, one output channel
    bias = torch.tensor([0.5, 0.25])
    adjacency = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 4.0], [0.0, 0.0]]])  # self; joint 0 to joint 1
    y = reference.graph_conv(x, weight, bias, adjacency).flatten()
    assert y.tolist() == [2 * 1 + 0.5, 2 * 10 + 0.5 + 4 * (3 * 1 + 0.25)]


@pytest.mark.parametrize("name", ALL)
def test_gradient_of_one_argument_only(name):
    inputs = {k: v.float() for k, v in make_inputs(2, 5, 2, 25, 7)(0).items()}
    leaf = inputs[name].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(skelkern.graph_conv(**inputs | {name: leaf}).square().sum(), leaf)
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    expected = torch.autograd.grad(skelkern.graph_conv(**leaves).square().sum(), leaves[name])[0]
    assert torch.equal(gradient, expected)


def test_joints_that_no_subset_reaches_are_zero_even_beside_nan():
    inputs = {k: v.float() for k, v in make_inputs(2, 4, 3, 5, 6)(0).items()}
    inputs["adjacency"][:, :, 2] = 0  # nothing flows into joint 2
    inputs["adjacency"][:, 4, :3] = 0  # joint 4 flows into 3 and 4 only
    expected = skelkern.graph_conv(**inputs)
    inputs["x"][:, :, :, 4] = torch.nan
    found = skelkern.graph_conv(**inputs)
    assert torch.equal(found[..., 2], torch.zeros(2, 6, 3))
    assert torch.equal(found[..., :3], expected[..., :3])
    assert found[..., 4].isnan().all()


def test_a_gradient_that_is_nan_spreads_to_neighbours_only():
    inputs = {k: v.float() for k, v in make_inputs(2, 4, 3, 5, 6)(0).items()}
    inputs["adjacency"][:, :, 4] = 0
    inputs["adjacency"][0, 4, 4] = inputs["adjacency"][1, 2, 4] = 1  # into joint 4 flow 4 and 2
    leaf = inputs["x"].requires_grad_()
    y_gradient = torch.ones(2, 6, 3, 5)
    y_gradient[..., 4] = torch.nan
    (found,) = torch.autograd.grad(skelkern.graph_conv(**inputs), leaf, y_gradient)
    assert found[..., [2, 4]].isnan().all()
    assert not found[..., [0, 1, 3]].isnan().any()


@pytest.mark.parametrize("shape", [(2, 4, 3, 5, 6), (2, 4, 1, 5, 6)], ids=str)
def test_channels_last_memory_is_taken_and_returned(shape, kernel):
    if kernel != "triton":
        pytest.skip("the kernel computes in (N, C, T, V)")
    from skelkern.ops.graph_conv.triton import _as_rows

    inputs = {k: v.float() for k, v in make_inputs(*shape)(0).items()}
    for memory_format in (torch.channels_last, torch.contiguous_format):
        leaf = inputs["x"].contiguous(memory_format=memory_format).requires_grad_()
        y = skelkern.graph_conv(**inputs | {"x": leaf})
        (gradient,) = torch.autograd.grad(y.sum(), leaf)
        assert y.is_contiguous(memory_format=memory_format)
        assert gradient.is_contiguous(memory_format=memory_format)
        if memory_format == torch.channels_last:
            assert _as_rows(leaf).data_ptr() == leaf.data_ptr(), "no copy"


def test_removed_joints_shrink_the_graph():
    inputs = {k: v.float() for k, v in make_inputs(2, 4, 3, 25, 6)(0).items()}
    kept = torch.tensor([0, 3, 4, 7, 11, 24])
    adjacency = inputs["adjacency"][:, kept][:, :, kept]
    found = skelkern.graph_conv(inputs["x"][..., kept], inputs["weight"], inputs["bias"], adjacency)
    expected = reference.graph_conv(inputs["x"][..., kept], inputs["weight"], inputs["bias"], adjacency)
    assert found.shape == (2, 6, 3, 6)
    torch.testing.assert_close(found, expected)


def test_weight_of_a_convolution_and_non_contiguous_inputs():
    inputs = {k: v.float() for k, v in make_inputs(2, 4, 3, 5, 6)(0).items()}
    expected = skelkern.graph_conv(**inputs)
    channels_last = inputs["x"].to(memory_format=torch.channels_last)
    transposed = inputs["adjacency"].mT.contiguous().mT
    weight = inputs["weight"][..., None, None]
    assert torch.equal(skelkern.graph_conv(channels_last, weight, inputs["bias"], transposed), expected)
    leaf = weight.requires_grad_()
    skelkern.graph_conv(channels_last, leaf, inputs["bias"], transposed).sum().backward()
    assert leaf.grad.shape == (18, 4, 1, 1)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5, 6), (2, 0, 4, 5, 6), (2, 3, 0, 5, 6), (2, 3, 4, 0, 6), (2, 3, 4, 5, 0)])
def test_zero_sizes(shape):
    inputs = {k: v.float().requires_grad_() for k, v in make_inputs(*shape, kind="dense")(0).items()}
    y = skelkern.graph_conv(**inputs)
    assert y.shape == (shape[0], shape[4], *shape[2:4])
    y.sum().backward()
    assert inputs["weight"].grad.shape == inputs["weight"].shape


def test_follows_autocast():
    inputs = {k: v.float() for k, v in make_inputs(2, 4, 3, 25, 6)(0).items()}
    leaf = inputs["weight"].requires_grad_()
    with torch.autocast(leaf.device.type, dtype=torch.bfloat16):
        y = skelkern.graph_conv(**inputs)
        assert y.dtype == torch.bfloat16
        assert skelkern.graph_conv(**inputs, impl="reference").dtype == torch.bfloat16
    y.sum().backward()
    assert leaf.grad.dtype == torch.float32


X, WEIGHT, BIAS, ADJACENCY = torch.zeros(2, 3, 4, 5), torch.zeros(6, 3), torch.zeros(6), torch.zeros(3, 5, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], WEIGHT, BIAS, ADJACENCY), ValueError, r"x: expected shape \(N, C, T, V\), found \(3, 4, 5\)"),
        ((X, WEIGHT[:, :2], BIAS, ADJACENCY), ValueError, r"weight: .* C=3, found \(6, 2\)"),
        ((X, WEIGHT[:5], None, ADJACENCY), ValueError, "multiple of the adjacency's K=3, found 5"),
        ((X, WEIGHT, BIAS[:4], ADJACENCY), ValueError, r"bias: expected shape .*=6, found \(4,\)"),
        ((X, WEIGHT, BIAS, ADJACENCY[:, :4]), ValueError, r"adjacency: .* V=5, found \(3, 4, 5\)"),
        ((X, WEIGHT, BIAS, ADJACENCY.expand(3, 3, 5, 5)), ValueError, r"adjacency: .* N=2, .*V=5"),
        ((X, WEIGHT.double(), BIAS, ADJACENCY), TypeError, "weight: expected x's dtype torch.float32"),
        ((X, WEIGHT, BIAS, ADJACENCY.to("meta")), ValueError, "adjacency: expected x's device .*, found meta"),
        ((X, WEIGHT, 1.0, ADJACENCY), TypeError, "bias: expected a torch.Tensor, found float"),
        ((X.long(), WEIGHT, BIAS, ADJACENCY), TypeError, "x: expected a floating-point tensor"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.graph_conv(*arguments)
