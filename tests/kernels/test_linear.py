import pytest
import torch
from budget import check_budget, evaluate
from torch.autograd import gradcheck

import skelkern
from skelkern import _cpu
from skelkern.ops.linear import reference

ALL = ("x", "weight", "bias")


@pytest.fixture(autouse=True)
def kernel():
    with skelkern.use("cpu"):
        yield


def make_inputs(rows, channels, out_channels, bias=True, activation=None):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        inputs = {"x": randn(*rows, channels), "weight": randn(out_channels, channels), "activation": activation}
        return inputs | ({"bias": randn(out_channels)} if bias else {})

    return make


# single values, primes, several blocks of rows, columns and depth, a depth that is split, no leading dimension
SHAPES = [((1,), 1, 1), ((7, 3), 5, 53), ((300,), 20, 400), ((33,), 700, 49), ((2500,), 16, 3), ((), 4, 5)]


@pytest.mark.parametrize(("rows", "channels", "out_channels"), SHAPES, ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_error_budget(rows, channels, out_channels, activation):
    check_budget(skelkern.linear, make_inputs(rows, channels, out_channels, activation=activation), ALL)


def test_error_budget_of_a_depth_that_is_packed_in_parts():
    check_budget(skelkern.linear, make_inputs((300,), 15000, 310), ALL, seeds=range(2))


def test_error_budget_without_bias():
    check_budget(skelkern.linear, make_inputs((40,), 30, 20, bias=False), ("x", "weight"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.linear, make_inputs((9, 4), 12, 20, activation="relu"), ALL, dtype=dtype)


@pytest.mark.parametrize("activation", [False, True])
def test_gradcheck_of_the_reference(activation):
    inputs = make_inputs((3, 2), 4, 5)(0)
    leaves = [inputs[name].requires_grad_() for name in ALL]
    assert gradcheck(lambda *tensors: reference.linear(*tensors, activation), leaves)


@pytest.mark.parametrize("name", ALL)
def test_gradient_of_one_argument_only(name):
    inputs = make_inputs((6, 5), 7, 9, activation="relu")(0)
    inputs = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    alone = evaluate(skelkern.linear, inputs, (name,))
    assert torch.equal(alone[f"gradient of {name}"], evaluate(skelkern.linear, inputs, ALL)[f"gradient of {name}"])


def test_transposed_operands_give_the_same_bits():
    inputs = {k: v.float() for k, v in make_inputs((130,), 50, 70)(0).items() if isinstance(v, torch.Tensor)}
    expected = evaluate(skelkern.linear, inputs, ALL)
    transposed = {k: v.T.contiguous().T if v.dim() == 2 else v for k, v in inputs.items()}
    found = evaluate(skelkern.linear, transposed, ALL)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_strided_operands():
    x = torch.randn(40, 30, 2)[..., 0]
    weight = torch.randn(20, 60)[:, ::2]
    torch.testing.assert_close(skelkern.linear(x, weight), x @ weight.T)
    columns = torch.randn(50, 64)[:, 7:30]
    torch.testing.assert_close(skelkern.linear(columns, columns), columns @ columns.T)


@pytest.mark.parametrize(("rows", "channels", "out_channels"), [((0, 3), 4, 5), ((3,), 0, 5), ((3,), 4, 0)])
def test_zero_sizes(rows, channels, out_channels):
    inputs = {
        k: v.float().requires_grad_()
        for k, v in make_inputs(rows, channels, out_channels)(0).items()
        if isinstance(v, torch.Tensor)
    }
    y = skelkern.linear(**inputs)
    assert y.shape == (*rows, out_channels)
    y.sum().backward()
    assert inputs["weight"].grad.shape == (out_channels, channels)


def test_nan_stays_in_its_row():
    x, weight = torch.randn(20, 8), torch.randn(6, 8)
    x[3, 2] = torch.nan
    y = skelkern.linear(x, weight, activation="relu")
    assert y[3].isnan().all()
    assert y.isnan().sum() == 6


def test_follows_autocast():
    x, weight = torch.randn(4, 8), torch.randn(6, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert skelkern.linear(x, weight, impl="reference").dtype == torch.bfloat16
        y = skelkern.linear(x, weight)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert weight.grad.dtype == torch.float32


def test_torch_has_what_it_does_as_fast():
    level = _cpu.level() if _cpu.vendor() == "AMD" else ""

    def chosen(rows, depth, columns):
        return skelkern.explain(skelkern.linear, torch.zeros(rows, depth), torch.zeros(columns, depth)).chosen

    with skelkern.use("auto"):
        assert chosen(4, 8, 6) == "reference"
        assert chosen(4096, 256, 256) == ("cpu" if level == "avx512" else "reference")
        assert chosen(64, 2048, 1024) == ("cpu" if level in ("avx2", "avx512") else "reference")
        assert chosen(257, 2048, 1024) == ("cpu" if level == "avx512" else "reference")


X, WEIGHT, BIAS = torch.zeros(2, 3), torch.zeros(6, 3), torch.zeros(6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[:, :2], WEIGHT, BIAS), ValueError, r"x: expected shape \(\*, C\) with C=3, found \(2, 2\)"),
        ((X, WEIGHT[0], BIAS), ValueError, r"weight: expected shape \(C', C\), found \(3,\)"),
        ((X, WEIGHT, BIAS[:4]), ValueError, r"bias: expected shape \(C'\) with C'=6, found \(4,\)"),
        ((X, WEIGHT.double(), None), TypeError, "weight: expected x's dtype torch.float32, found torch.float64"),
        ((X.long(), WEIGHT, None), TypeError, "x: expected a floating-point tensor, found torch.int64"),
        ((X, WEIGHT, BIAS.to("meta")), ValueError, "bias: expected x's device cpu, found meta"),
        ((X, WEIGHT, BIAS, "gelu"), ValueError, "activation: expected one of 'relu', found 'gelu'"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        skelkern.linear(*arguments)


def test_auto_is_traced_as_one_graph():
    x, weight = torch.randn(5, 7), torch.randn(3, 7)
    torch.compiler.reset()
    found = torch.compile(skelkern.linear, fullgraph=True, backend="eager")(x, weight)
    assert torch.equal(found, skelkern.linear(x, weight))
