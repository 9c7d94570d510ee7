import numpy as np
import pytest
import torch
from budget import check_budget
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.chamfer import reference

REDUCTIONS = ["sum_of_means", "max_of_means", "sum", "none"]
# (B, N, M, D): one point each; groups and tiles that are not full; many dimensions; one cloud, which is cut
SHAPES = [(1, 1, 1, 3), (2, 7, 5, 1), (9, 61, 150, 6), (1, 333, 40, 3), (2, 20, 30, 40)]


def make_inputs(b, n, m, d, share=None, **options):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(b, count, d, generator=generator, dtype=torch.float64) + 1 for count in (n, m))
        inputs = {"x": x, "y": y}
        if share is not None:
            inputs["x_mask"] = torch.rand(b, n, generator=generator) < share
            inputs["y_mask"] = torch.rand(b, m, generator=generator) < share
        return {**inputs, **options}

    return make


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("squared", [True, False])
def test_error_budget(shape, squared):
    check_budget(skelkern.chamfer_distance, make_inputs(*shape, squared=squared, reduction="none"), ("x", "y"))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("share", [0.7, 0.02])
def test_error_budget_with_masks_and_weights(reduction, share):
    weights = torch.tensor([1.0, 0.0, 0.3, 2.0, 1.0, 1.0], dtype=torch.float64)
    inputs = make_inputs(9, 61, 50, 6, share=share, reduction=reduction, weights=weights, squared=False)
    check_budget(skelkern.chamfer_distance, inputs, ("x", "y"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.chamfer_distance, make_inputs(2, 20, 30, 3), ("x", "y"), dtype=dtype)


@pytest.mark.parametrize("squared", [True, False])
def test_gradcheck_of_the_reference(squared):
    inputs = make_inputs(2, 5, 7, 3, share=0.7)(0)
    leaves = inputs.pop("x").requires_grad_(), inputs.pop("y").requires_grad_()
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)

    def function(x, y):
        return reference.nearest_distances(x, y, inputs["x_mask"], inputs["y_mask"], weights, squared)

    assert gradcheck(function, leaves)


def test_on_a_line(impl):
    x, y = torch.tensor([[[0.0], [4.0]]]), torch.tensor([[[1.0], [2.0], [9.0]]])
    to_y, to_x = skelkern.chamfer_distance(x, y, reduction="none", squared=False, impl=impl)
    assert to_y.tolist() == [[1, 2]]
    assert to_x.tolist() == [[1, 2, 5]]
    assert skelkern.chamfer_distance(x, y, impl=impl).item() == pytest.approx(5 / 2 + 30 / 3)
    assert skelkern.chamfer_distance(x, y, reduction="max_of_means", impl=impl).item() == pytest.approx(10)
    assert skelkern.chamfer_distance(x, y, reduction="sum", impl=impl).item() == pytest.approx(35)


def test_ties_go_to_the_lower_index(impl):
    x = torch.tensor([[[0.0], [0.0]]], requires_grad=True)
    y = torch.tensor([[[1.0], [-1.0], [1.0]]], requires_grad=True)
    to_y, to_x = skelkern.chamfer_distance(x, y, reduction="none", impl=impl)
    (of_y,) = torch.autograd.grad(to_y.sum(), y, retain_graph=True)
    assert of_y.flatten().tolist() == [4, 0, 0]
    (of_x,) = torch.autograd.grad(to_x.sum(), x)
    assert of_x.flatten().tolist() == [-2, 0]


def test_equal_means_have_the_gradient_of_x(impl):
    x, y = torch.tensor([[[0.0], [1.0]]], requires_grad=True), torch.tensor([[[0.5]]])
    loss = skelkern.chamfer_distance(x, y, reduction="max_of_means", impl=impl)
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.flatten().tolist() == pytest.approx([-0.5, 0.5]), "the direction from y moves one point by 1"


def test_coincident_points_have_no_euclidean_gradient(impl):
    x = torch.ones(1, 3, 2, requires_grad=True)
    loss = skelkern.chamfer_distance(x, torch.ones(1, 2, 2), squared=False, impl=impl)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, x)
    assert (gradient == 0).all()


def test_clouds_without_points_contribute_nothing(impl):
    x, y = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 5, 3, requires_grad=True)
    y_mask = torch.tensor([[False] * 5, [True] * 5])
    to_y, to_x = skelkern.chamfer_distance(x, y, y_mask=y_mask, reduction="none", impl=impl)
    assert (to_y[0] == 0).all()
    assert (to_x[0] == 0).all()
    of_x, of_y = torch.autograd.grad(to_y.sum() + to_x.sum(), (x, y))
    assert (of_x[0] == 0).all()
    assert (of_y[0] == 0).all()
    assert (of_x[1] != 0).any()
    empty = skelkern.chamfer_distance(torch.zeros(2, 0, 3), y, impl=impl)
    assert empty.item() == 0


def test_masked_points_change_nothing(impl):
    inputs = {name: v.float() if v.is_floating_point() else v for name, v in make_inputs(2, 30, 20, 3, 0.6)(0).items()}
    results = []
    for garbage in (0.0, float("nan")):
        x = torch.where(inputs["x_mask"][..., None], inputs["x"], garbage).requires_grad_()
        y = torch.where(inputs["y_mask"][..., None], inputs["y"], garbage).requires_grad_()
        loss = skelkern.chamfer_distance(x, y, inputs["x_mask"], inputs["y_mask"], impl=impl)
        results.append([loss, *torch.autograd.grad(loss, (x, y))])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize("place", [0, 3, 8])
def test_a_nan_hides_no_other_point(place):
    """Wherever it lies among the points that are handled at once."""
    x, y = torch.randn(1, 20, 3), torch.randn(1, 30, 3)
    x[0, place], y[0, place] = torch.nan, torch.nan
    found = skelkern.chamfer_distance(x, y, reduction="none")
    expected = skelkern.chamfer_distance(x, y, reduction="none", impl="reference")
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, equal_nan=True)
        assert ours.isnan().sum() == 1


def test_nan_propagates(impl):
    x, y = torch.randn(1, 4, 3), torch.randn(1, 5, 3)
    x[0, 2, 1] = torch.nan
    to_y, to_x = skelkern.chamfer_distance(x, y, reduction="none", impl=impl)
    assert to_y.isnan().tolist() == [[False, False, True, False]]
    assert not to_x.isnan().any(), "a NaN distance ranks as infinite"
    assert skelkern.chamfer_distance(torch.full_like(x, torch.nan), y, impl=impl).isnan()


@pytest.mark.cpu_kernel
def test_arrays_in_and_out():
    x, y = (np.random.default_rng(0).normal(size=(2, n, 3)).astype(np.float32) for n in (40, 30))
    expected = skelkern.chamfer_distance(torch.from_numpy(x), torch.from_numpy(y), reduction="none")
    for array, tensor in zip(skelkern.chamfer_distance(x, y, reduction="none"), expected, strict=True):
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, tensor.numpy())


def test_empty_batch():
    empty = torch.zeros(0, 4, 3), torch.zeros(0, 5, 3)
    assert skelkern.chamfer_distance(*empty).isnan()
    assert skelkern.chamfer_distance(*empty, reduction="sum").item() == 0
    assert skelkern.chamfer_distance(*empty, reduction="none")[1].shape == (0, 5)


X, Y = torch.zeros(2, 4, 3), torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (X, torch.zeros(2, 5, 4)),
            {},
            ValueError,
            r"y: expected shape \(B, M, D\) with B=2, M=5, D=3, found \(2, 5, 4\)",
        ),
        ((X, Y.double()), {}, TypeError, "y: expected x's dtype torch.float32"),
        ((X, Y, torch.ones(2, 4)), {}, TypeError, "x_mask: expected torch.bool, found torch.float32"),
        ((X, Y, None, torch.ones(2, 4).bool()), {}, ValueError, r"y_mask: expected shape \(B, M\) with B=2, M=5"),
        ((X, Y), {"reduction": "mean"}, ValueError, "reduction: expected one of 'sum_of_means', 'max_of_means'"),
        ((X, Y), {"weights": torch.ones(2)}, ValueError, r"weights: expected shape \(D\) with D=3, found \(2,\)"),
        ((X, Y), {"weights": -torch.ones(3)}, ValueError, "weights: expected no negative value, found -1.0"),
    ],
)
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        skelkern.chamfer_distance(*arguments, **options)
