import pytest
import torch
from budget import check_budget, evaluate
from torch.autograd import gradcheck

import skelkern
import skelkern.nn
from skelkern.ops.unified_downsampling import reference

ALL = ("x", "weight", "bias", "gamma", "beta")


def make_inputs(n, t, c, kernel=5, bias=True, **numbers):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        inputs = {"x": randn(n, t, c), "weight": randn(c, 1, kernel), "gamma": randn(c), "beta": randn(c)}
        return inputs | {"bias": randn(c) if bias else None} | numbers

    return make


# HiCo's, frames left over, single values, strides, pools of 1 and 3, more sequences than chunks of gradients
CASES = [
    make_inputs(2, 12, 512, padding=2),
    make_inputs(3, 25, 50, padding=2),
    make_inputs(1, 2, 2, kernel=1),
    make_inputs(2, 17, 33, kernel=4, stride=2, padding=1, pool=3),
    make_inputs(150, 7, 5, kernel=3, padding=4, pool=1),
    make_inputs(2, 9, 20, stride=3, padding=7, eps=0.1),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_error_budget(case):
    check_budget(skelkern.unified_downsampling, CASES[case], ALL)


def test_error_budget_without_bias():
    names = tuple(name for name in ALL if name != "bias")
    check_budget(skelkern.unified_downsampling, make_inputs(2, 8, 20, bias=False), names)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.unified_downsampling, make_inputs(4, 10, 24, kernel=3), (), dtype=dtype)


def test_gradcheck_of_the_reference():
    inputs = make_inputs(2, 7, 4, kernel=3)(0)
    leaves = [inputs[name].requires_grad_() for name in ALL]
    assert gradcheck(lambda *tensors: reference.unified_downsampling(*tensors, 1, 1, 2, 1e-5), leaves)


@pytest.mark.parametrize("name", ALL)
def test_gradient_of_one_argument_only(name):
    inputs = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in make_inputs(6, 9, 21)(0).items()}
    alone = evaluate(skelkern.unified_downsampling, inputs, (name,))
    both = evaluate(skelkern.unified_downsampling, inputs, ALL)
    assert torch.equal(alone[f"gradient of {name}"], both[f"gradient of {name}"])


def test_among_equal_maxima_the_first_frame_gets_the_gradient():
    x = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]], requires_grad=True)
    parameters = (torch.ones(2, 1, 1), None, torch.ones(2), torch.tensor([0.5, -0.5]))
    for impl in ("cpu", "reference"):
        (gradient,) = torch.autograd.grad(skelkern.unified_downsampling(x, *parameters, eps=1.0, impl=impl)[0, 0, 0], x)
        assert gradient[0, 0].abs().min() > 0.1, impl
        assert not gradient[0, 1].any(), impl


def test_module_has_the_official_names():
    module = skelkern.nn.UnifiedDownsampling(6, kernel_size=5, padding=2)
    assert list(module.state_dict()) == ["conv.dw_conv.weight", "conv.dw_conv.bias", "norm.weight", "norm.bias"]
    x = torch.randn(3, 9, 6)
    y = module.conv.dw_conv(x.transpose(1, 2)).transpose(1, 2)
    expected = torch.nn.functional.max_pool1d(torch.relu(module.norm(y)).transpose(1, 2), 2).transpose(1, 2)
    torch.testing.assert_close(module(x), expected)


def test_transposed_sequences():
    inputs = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in make_inputs(3, 8, 20)(0).items()}
    transposed = inputs | {"x": inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)}
    expected = evaluate(skelkern.unified_downsampling, inputs, ALL)
    for name, value in evaluate(skelkern.unified_downsampling, transposed, ALL).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_nan_stays_in_its_frames(impl):
    inputs = {
        k: v.float() if isinstance(v, torch.Tensor) else v for k, v in make_inputs(2, 12, 20, kernel=3)(0).items()
    }
    inputs["x"][1, 4, 7] = torch.nan
    y = skelkern.unified_downsampling(**inputs, impl=impl)
    assert y[1, 1:3].isnan().all()
    assert y.isnan().sum() == 2 * 20


def test_empty_batch():
    inputs = make_inputs(0, 8, 4, padding=2)(0)
    inputs = {k: v.float().requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    y = skelkern.unified_downsampling(**inputs)
    assert y.shape == (0, 4, 4)
    y.sum().backward()
    assert not inputs["weight"].grad.any()


X, WEIGHT, ROW = torch.zeros(2, 6, 3), torch.zeros(3, 1, 5), torch.zeros(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], WEIGHT, None, ROW, ROW), ValueError, r"x: expected shape \(N, T, C\), found \(6, 3\)"),
        ((X, WEIGHT[:, 0], None, ROW, ROW), ValueError, r"weight: expected shape \(C, 1, K\) with C=3"),
        (
            (X, WEIGHT[..., :0], None, ROW, ROW),
            ValueError,
            r"weight: expected at least one channel and one frame, found",
        ),
        ((X, WEIGHT, ROW[:2], ROW, ROW), ValueError, r"bias: expected shape \(C\) with C=3, found \(2,\)"),
        ((X, WEIGHT, None, ROW[:2], ROW), ValueError, r"gamma: expected shape \(C\) with C=3, found \(2,\)"),
        ((X, WEIGHT, None, ROW, ROW[:2]), ValueError, r"beta: expected shape \(C\) with C=3, found \(2,\)"),
        ((X, WEIGHT.double(), None, ROW, ROW), TypeError, "weight: expected x's dtype torch.float32"),
        ((X.long(), WEIGHT, None, ROW, ROW), TypeError, "x: expected a floating-point tensor, found torch.int64"),
        ((X, WEIGHT, None, ROW, ROW, 0), ValueError, "stride: expected a whole number in"),
        ((X, WEIGHT, None, ROW, ROW, 1, -1), ValueError, "padding: expected a whole number in"),
        ((X, WEIGHT, None, ROW, ROW, 1, 0, 0), ValueError, "pool: expected a whole number in"),
        ((X, WEIGHT, None, ROW, ROW, 1, 0, 2, -1.0), ValueError, "eps: expected a finite number in"),
        ((X[:, :5], WEIGHT, None, ROW, ROW), ValueError, "x: expected at least 6 frames, padding included, found 5"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.unified_downsampling(*arguments)
