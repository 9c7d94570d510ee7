import pytest
import torch
from budget import check_budget, evaluate
from torch import nn
from torch.autograd import gradcheck

import skelkern
from skelkern.nn import BlockTail
from skelkern.ops.block_tail import reference

ALL = ("x", "weight", "bias", "residual")


def make_inputs(*shape, residual=True, affine=True, **options):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*size):
            return torch.randn(*size, generator=generator, dtype=torch.float64)

        channels = shape[1]
        return {
            "x": 3 + 2 * randn(*shape),
            "running_mean": randn(channels),
            "running_var": 0.5 + randn(channels).square(),
            "weight": 1 + 0.1 * randn(channels) if affine else None,
            "bias": randn(channels) if affine else None,
            "residual": randn(*shape) if residual else None,
            "seed": torch.tensor(seed - 3),
            **options,
        }

    return make


# (N, C, *): single values, primes, rows shorter than a vector and longer than a block of draws, several chunks, no rows
SHAPES = [
    *((2, 1, 1, 1), (3, 5), (4, 3, 7)),
    *(
        pytest.param(shape, marks=pytest.mark.large)
        for shape in ((9, 2, 13, 20), (2, 16, 50, 25), (9, 17, 13, 20), (70, 64, 13, 5))
    ),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_error_budget(shape, training):
    check_budget(skelkern.block_tail, make_inputs(*shape, training=training, dropout=0.4), ALL)


def test_without_dropout_residual_affine_and_relu():
    check_budget(skelkern.block_tail, make_inputs(4, 6, 9, 5, residual=False, training=True), ("x", "weight", "bias"))
    plain = make_inputs(4, 6, 9, 5, residual=False, affine=False, training=True, relu=False)
    check_budget(skelkern.block_tail, plain, ("x",))


def test_known_statistics():
    make = make_inputs(4, 3, 9, 5, training=True)

    def with_statistics(seed):
        inputs = make(seed)
        variance, mean = torch.var_mean(inputs["x"], dim=(0, 2, 3), correction=0)
        return {**inputs, "statistics": (mean, variance)}

    check_budget(skelkern.block_tail, with_statistics, ALL)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.block_tail, make_inputs(4, 3, 9, 25, training=True, dropout=0.5), ALL, dtype=dtype)


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_of_the_reference(training):
    values = make_inputs(3, 2, 2, 3)(0)
    leaves = [values[name].requires_grad_() for name in ALL]
    kept = (None, None) if training else (values["running_mean"], values["running_var"])

    def tail(x, weight, bias, residual):
        return reference.block_tail(x, *kept, weight, bias, residual, values["seed"], 0.4, 1e-5, True)[0]

    assert gradcheck(tail, leaves)


def test_is_batch_norm_with_residual_and_relu():
    inputs = make_inputs(6, 4, 10, 5)(0)
    ours = {name: value.float().clone() for name, value in inputs.items() if name != "seed"}
    theirs = {name: value.clone() for name, value in ours.items()}
    for training in (True, False):
        found = skelkern.block_tail(**ours, training=training)
        residual = theirs.pop("residual")
        normalised = nn.functional.batch_norm(
            theirs["x"], theirs["running_mean"], theirs["running_var"], theirs["weight"], theirs["bias"], training
        )
        theirs["residual"] = residual
        torch.testing.assert_close(found, torch.relu(normalised + residual))
        torch.testing.assert_close(ours["running_mean"], theirs["running_mean"])
        torch.testing.assert_close(ours["running_var"], theirs["running_var"])


def test_large_mean_keeps_its_variance():
    inputs = make_inputs(8, 3, 40, 25, residual=False, affine=False, training=True, relu=False)(0)
    x = (inputs["x"] + 3000).float()
    y = skelkern.block_tail(x, None, None, training=True, relu=False)
    torch.testing.assert_close(y.var(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-4, atol=0)


@pytest.mark.large
def test_dropout_keeps_its_share_and_depends_on_the_seed(impl):
    x = torch.ones(64, 32, 10, 25)
    statistics = torch.zeros(32), torch.ones(32) - 1e-5
    runs = [
        skelkern.block_tail(x, *statistics, dropout=0.3, seed=torch.tensor(seed), impl=impl)
        for seed in (1, 1, 2, 2**62)
    ]
    kept = [run > 0 for run in runs]
    assert torch.equal(kept[0], kept[1])
    torch.testing.assert_close(runs[0].unique(), torch.tensor([0.0, 1 / 0.7]))
    for mask in kept:
        assert abs(mask.float().mean() - 0.7) < 4 * (0.21 / mask.numel()) ** 0.5
    for other in kept[2:]:  # independent draws agree with probability 0.7² + 0.3²
        assert abs((kept[0] == other).float().mean() - 0.58) < 4 * (0.25 / other.numel()) ** 0.5


def test_draws_are_known_philox_words():
    """The published answers of Random123 for counter 0 and key 0."""
    first_words = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    for number, word in enumerate(first_words):
        for step, kept in ((0, True), (1, False)):
            mask = skelkern.block_tail(
                torch.ones(1, 1, 64), torch.zeros(1), torch.ones(1), dropout=(word + step) / 2**32, seed=torch.tensor(0)
            )
            assert bool(mask[0, 0, 16 * number] > 0) is kept


def test_nan_reaches_its_own_element_only_in_evaluation():
    inputs = make_inputs(2, 3, 4, 5)(0)
    inputs["x"][0, 1, 2, 3] = torch.nan
    found = evaluate(skelkern.block_tail, {k: v.float() for k, v in inputs.items() if k != "seed"}, ())["output 0"]
    assert found.isnan().sum() == 1
    assert found[0, 1, 2, 3].isnan()


def test_empty_batch():
    x = torch.zeros(0, 3, 4, 5, requires_grad=True)
    y = skelkern.block_tail(x, torch.zeros(3), torch.ones(3))
    y.sum().backward()
    assert y.shape == x.shape
    assert x.grad.shape == x.shape


@pytest.mark.cpu_kernel  # others read channels where they are: see below
def test_non_contiguous_arguments():
    inputs = {
        k: v.float() if k != "seed" else v
        for k, v in make_inputs(4, 6, 5, 7, training=True, dropout=0.2)(0).items()
        if isinstance(v, torch.Tensor)
    }
    options = {"training": True, "dropout": 0.2}
    expected = evaluate(skelkern.block_tail, {**inputs, **options}, ALL)
    strided = {
        **inputs,
        "x": inputs["x"].to(memory_format=torch.channels_last),
        "residual": inputs["residual"].transpose(2, 3).contiguous().transpose(2, 3),
    }
    found = evaluate(skelkern.block_tail, {**strided, **options}, ALL)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def channels_last(inputs):
    """x and residual with their channels last in memory."""
    moved = {name: inputs[name].movedim(1, -1).contiguous().movedim(-1, 1) for name in ("x", "residual")}
    return {**inputs, **moved}


# (N, C, *): few channels, several tiles of them
@pytest.mark.parametrize(
    ("shape", "dropout"),
    [
        ((4, 3, 70), 0.0),
        ((4, 3, 70), 0.4),
        ((1, 37, 7, 11), 0.4),
        pytest.param((1, 37, 7, 11), 0.0, marks=pytest.mark.large),
    ],
    ids=str,
)
def test_channels_last(shape, dropout):
    make = make_inputs(*shape, training=True, dropout=dropout)
    check_budget(skelkern.block_tail, lambda seed: channels_last(make(seed)), ALL)


def test_channels_last_in_half_precision():
    make = make_inputs(1, 35, 7, 11, training=True, dropout=0.5)
    check_budget(skelkern.block_tail, lambda seed: channels_last(make(seed)), ALL, dtype=torch.float16)


def test_memory_format_changes_no_draws(kernel):
    inputs = make_inputs(2, 37, 7, 11, dropout=0.4)(0)
    inputs = {k: v.float() if isinstance(v, torch.Tensor) and k != "seed" else v for k, v in inputs.items()}
    names = ("x", "residual")
    expected = evaluate(skelkern.block_tail, inputs, names)
    found = evaluate(skelkern.block_tail, channels_last(inputs), names)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert value.is_contiguous()
        if kernel != "cpu":
            assert found[name].is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(3)}, ValueError, r"x: expected \(N, C, \*\), found \(3,\)"),
        ({"x": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "x: expected a floating-point tensor"),
        ({"weight": torch.ones(4)}, ValueError, r"weight: expected shape \(C\) with C=3, found \(4,\)"),
        ({"bias": None}, ValueError, "bias: expected with weight or not at all, found weight alone"),
        ({"running_var": None}, ValueError, "expected tensors when not training, found None"),
        ({"residual": torch.zeros(2, 3, 1, 5)}, ValueError, r"residual: expected x's shape \(2, 3, 4, 5\)"),
        ({"residual": torch.zeros(2, 3, 4, 5).double()}, TypeError, "residual: expected x's dtype torch.float32"),
        ({"dropout": 0.5}, ValueError, "seed: expected an int64 scalar tensor when dropout is above 0, found None"),
        ({"dropout": 1.0}, ValueError, "dropout: expected less than 1, found 1"),
        ({"dropout": 0.5, "seed": torch.tensor(1.0)}, TypeError, "seed: expected torch.int64"),
        ({"momentum": 1.5}, ValueError, r"momentum: expected a finite number in \[0, 1\]"),
        ({"x": torch.zeros(1, 3), "residual": None, "training": True}, ValueError, "more than one value per channel"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = {
        "x": torch.zeros(2, 3, 4, 5),
        "running_mean": torch.zeros(3),
        "running_var": torch.ones(3),
        "weight": torch.ones(3),
        "bias": torch.zeros(3),
        "residual": torch.zeros(2, 3, 4, 5),
        **change,
    }
    with pytest.raises(error, match=message):
        skelkern.block_tail(**arguments)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_module_has_the_state_of_a_batch_norm(momentum):
    ours, theirs = BlockTail(6, momentum=momentum, relu=False), nn.BatchNorm2d(6, momentum=momentum)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(3):
        x = torch.randn(4, 6, 5, 7)
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_module_draws_new_dropout_in_every_call_and_none_in_evaluation():
    module, x = BlockTail(6, dropout=0.5), torch.randn(4, 6, 5, 7)
    torch.manual_seed(0)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(module(x), first)
    assert torch.equal(module.eval()(x), module(x))
