import pytest
import torch
from budget import check_budget
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.cross_correlation import reference

# (N, D): below, at and above the switch between the two products; primes; one feature; several merged groups
SHAPES = [
    *((2, 3), (7, 5), (5, 7), (33, 33), (64, 17), (17, 64), (129, 97), (31, 100), (100, 1)),
    *(pytest.param(*shape, marks=pytest.mark.large) for shape in ((31, 1000), (16, 4500))),
]


def make_inputs(n, d, off_diagonal_weight=2e-3):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        z1 = torch.randn(n, d, generator=generator, dtype=torch.float64)
        z2 = 0.7 * z1 + torch.randn(n, d, generator=generator, dtype=torch.float64) + 1
        return {"z1": z1, "z2": z2, "off_diagonal_weight": off_diagonal_weight}

    return make


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_error_budget(n, d):
    check_budget(skelkern.cross_correlation_loss, make_inputs(n, d), ("z1", "z2"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.cross_correlation_loss, make_inputs(20, 70), ("z1", "z2"), dtype=dtype)


@pytest.mark.parametrize(("n", "d"), [(4, 3), (3, 5)])
def test_gradcheck_of_the_reference(n, d):
    inputs = make_inputs(n, d)(0)
    z1, z2 = inputs["z1"].requires_grad_(), inputs["z2"].requires_grad_()
    assert gradcheck(lambda a, b: reference.cross_correlation_loss(a, b, 0.3), (z1, z2))


def test_reference_is_the_textbook_formula():
    z1 = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=torch.float64)
    z2 = z1[:, [1, 0]]
    # standardised features are orthogonal; swapping them makes C the exchange matrix: 2 · (1 − 0)² + λ · 2 · 1²
    loss = reference.cross_correlation_loss(z1, z2, 0.25, eps=0.0)
    assert loss.item() == pytest.approx(2 + 0.25 * 2)


def test_gradient_of_one_side_only():
    inputs = make_inputs(9, 20)(0)
    z1, z2 = inputs["z1"].float().requires_grad_(), inputs["z2"].float()
    skelkern.cross_correlation_loss(z1, z2, 1e-3).backward()
    wide = inputs["z1"].clone().requires_grad_()
    reference.cross_correlation_loss(wide, inputs["z2"], 1e-3).backward()
    assert torch.allclose(z1.grad, wide.grad.float(), rtol=1e-4, atol=1e-6)
    assert z2.grad is None


def test_non_contiguous_inputs():
    inputs = make_inputs(40, 30)(0)
    z1, z2 = inputs["z1"].float(), inputs["z2"].float()
    expected = skelkern.cross_correlation_loss(z1, z2, 1e-3)
    wide = torch.zeros(40, 60)
    wide[:, ::2] = z2
    assert torch.equal(skelkern.cross_correlation_loss(z1.T.contiguous().T, wide[:, ::2], 1e-3), expected)


def test_empty_batch_is_nan_and_no_features_are_zero():
    assert skelkern.cross_correlation_loss(torch.zeros(0, 4), torch.zeros(0, 4), 1e-3).isnan()
    assert skelkern.cross_correlation_loss(torch.zeros(4, 0), torch.zeros(4, 0), 1e-3).item() == 0


def test_nan_propagates():
    z = torch.randn(6, 9)
    z[2, 3] = torch.nan
    assert skelkern.cross_correlation_loss(z, torch.randn(6, 9), 1e-3).isnan()


def test_loss_is_float32_under_autocast(impl):
    z = torch.randn(6, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert skelkern.cross_correlation_loss(z, z.bfloat16().float(), 1e-3, impl=impl).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (torch.zeros(3, 4), torch.zeros(3, 5), 1e-3),
            ValueError,
            r"z2: .*\(N, D\) with N=3, D=4, found \(3, 5\)",
        ),
        ((torch.zeros(3, 4, 1), torch.zeros(3, 4), 1e-3), ValueError, r"z1: expected shape \(N, D\)"),
        ((torch.zeros(1, 4), torch.zeros(1, 4), 1e-3), ValueError, "at least 2 samples .* found 1"),
        (
            (torch.zeros(3, 4), torch.zeros(3, 4).double(), 1e-3),
            TypeError,
            "z2: expected z1's dtype torch.float32",
        ),
        ((torch.zeros(3, 4), [1.0], 1e-3), TypeError, "z2: expected a torch.Tensor, found list"),
        (
            (torch.zeros(3, 4).long(), torch.zeros(3, 4), 1e-3),
            TypeError,
            "z1: expected a floating-point tensor",
        ),
        (
            (torch.zeros(3, 4), torch.zeros(3, 4), -1.0),
            ValueError,
            "off_diagonal_weight: expected a finite number",
        ),
        (
            (torch.zeros(3, 4), torch.zeros(3, 4), "1"),
            TypeError,
            "off_diagonal_weight: expected a number, found str",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.cross_correlation_loss(*arguments)
