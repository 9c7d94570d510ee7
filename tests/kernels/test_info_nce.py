import math

import pytest
import torch
from budget import check_budget
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.info_nce import reference

# (N, P, D, K): one of each; primes; several blocks of queries, of keys and groups of keys; an empty queue
SHAPES = [
    *((1, 1, 1, 1), (7, 2, 5, 13), (70, 1, 33, 300), (20, 5, 64, 0), (3, 2, 300, 500)),
    *(
        pytest.param(*shape, marks=pytest.mark.large)
        for shape in ((130, 1, 33, 1300), (300, 3, 17, 700), (9, 1, 700, 3000))
    ),
]


def make_inputs(n, p, d, k, spread=1.0, **options):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        shapes = {"query": (n, d), "positives": (n, p, d), "queue": (k, d)}
        inputs = {}
        for name, shape in shapes.items():
            noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
            inputs[name] = spread * torch.nn.functional.normalize(noise, dim=-1)
        return {**inputs, **options}

    return make


@pytest.mark.parametrize("multi_positive", ["log_sum", "mean_log"])
@pytest.mark.parametrize(("n", "p", "d", "k"), SHAPES)
def test_error_budget(n, p, d, k, multi_positive):
    inputs = make_inputs(n, p, d, k, multi_positive=multi_positive, reduction="none")
    check_budget(skelkern.info_nce, inputs, ("query", "positives"))


def test_error_budget_where_maxima_keep_rising():
    """Later keys resemble the query more: the running maximum changes in every block."""

    def make(seed):
        inputs = make_inputs(5, 1, 16, 2000)(seed)
        inputs["queue"] = (
            inputs["queue"] + torch.linspace(0, 3, 2000, dtype=torch.float64)[:, None] * inputs["query"][0]
        )
        return {**inputs, "reduction": "sum"}

    check_budget(skelkern.info_nce, make, ("query", "positives"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_budget(skelkern.info_nce, make_inputs(6, 2, 32, 100), ("query", "positives"), dtype=dtype)


@pytest.mark.parametrize("multi_positive", ["log_sum", "mean_log"])
def test_gradcheck_of_the_reference(multi_positive):
    inputs = make_inputs(3, 2, 4, 5)(0)
    query, positives = inputs["query"].requires_grad_(), inputs["positives"].requires_grad_()
    assert gradcheck(lambda q, p: reference.info_nce(q, p, inputs["queue"], 0.3, multi_positive), (query, positives))


def test_reference_is_the_textbook_formula():
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    positives = torch.tensor([[[2.0, 5.0], [0.0, 1.0]]], dtype=torch.float64)
    queue = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    own, everything = math.exp(4) + 1, math.exp(4) + 1 + math.exp(2)
    assert reference.info_nce(query, positives, queue, 0.5, "log_sum").item() == pytest.approx(
        -math.log(own / everything)
    )
    expected = -(math.log(math.exp(4) / everything) + math.log(1 / everything)) / 2
    assert reference.info_nce(query, positives, queue, 0.5, "mean_log").item() == pytest.approx(expected)


def test_large_scores_do_not_overflow(impl):
    query = torch.full((2, 4), 30.0)
    positives = torch.stack([query[0], -query[0]])
    loss = skelkern.info_nce(query, positives, torch.zeros(3, 4), 0.07, reduction="none", impl=impl)
    score = 4 * 900 / 0.07
    assert loss.tolist() == pytest.approx([0, score + math.log(3)])


def test_small_losses_keep_their_digits():
    query, orthogonal = torch.eye(2)[:1], torch.eye(2)[1:]
    loss = skelkern.info_nce(query, query, orthogonal, 0.05)  # a float32 difference of logarithms would be 0
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)


def test_one_positive_without_its_axis():
    inputs = {name: value.float() for name, value in make_inputs(5, 1, 8, 20)(0).items()}
    expected = skelkern.info_nce(**inputs)
    inputs["positives"] = inputs["positives"][:, 0].requires_grad_()
    loss = skelkern.info_nce(**inputs)
    loss.backward()
    assert torch.equal(loss, expected)
    assert inputs["positives"].grad.shape == (5, 8)


def test_queue_may_change_before_backward(impl):
    inputs = {name: value.float() for name, value in make_inputs(5, 2, 8, 20)(0).items()}
    query = inputs["query"].requires_grad_()
    (expected,) = torch.autograd.grad(skelkern.info_nce(**inputs, impl=impl), query)
    queue = inputs["queue"].clone()
    loss = skelkern.info_nce(query, inputs["positives"], queue, impl=impl)
    queue.zero_()
    assert torch.equal(torch.autograd.grad(loss, query)[0], expected)


def test_queue_gets_no_gradient(impl):
    inputs = {name: value.float().requires_grad_() for name, value in make_inputs(5, 2, 8, 20)(0).items()}
    skelkern.info_nce(**inputs, impl=impl).backward()
    assert inputs["queue"].grad is None


def test_non_contiguous_inputs():
    inputs = {name: value.float() for name, value in make_inputs(5, 2, 8, 20)(0).items()}
    expected = skelkern.info_nce(**inputs)
    inputs["queue"] = inputs["queue"].T.contiguous().T
    inputs["query"] = torch.stack([inputs["query"]] * 2, dim=2)[..., 1]
    assert torch.equal(skelkern.info_nce(**inputs), expected)


def test_empty_batch():
    empty = torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(3, 4)
    assert skelkern.info_nce(*empty).isnan()
    assert skelkern.info_nce(*empty, reduction="sum").item() == 0
    assert skelkern.info_nce(*empty, reduction="none").shape == (0,)


def test_no_features_compare_equal():
    loss = skelkern.info_nce(torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(3, 0))
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("argument", ["query", "positives", "queue"])
def test_nan_propagates(argument):
    inputs = {name: value.float() for name, value in make_inputs(3, 2, 8, 20)(0).items()}
    inputs[argument].view(-1)[0] = torch.nan
    losses = skelkern.info_nce(**inputs, reduction="none")
    assert losses[0].isnan()
    assert losses[1:].isnan().all() == (argument == "queue")


def test_loss_is_float32_under_autocast(impl):
    inputs = {name: value.bfloat16() for name, value in make_inputs(3, 2, 8, 20)(0).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert skelkern.info_nce(**inputs, impl=impl).dtype == torch.float32


QUERY, POSITIVES, QUEUE = torch.zeros(3, 4), torch.zeros(3, 2, 4), torch.zeros(5, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((QUERY, POSITIVES, torch.zeros(4, 5)), {}, ValueError, r"queue: .*\(K, D\) with K=4, D=4, found \(4, 5\)"),
        ((QUERY, torch.zeros(2, 4), QUEUE), {}, ValueError, r"positives: .*N=3, P=1, D=4, found \(2, 1, 4\)"),
        ((QUERY, torch.zeros(3, 0, 4), QUEUE), {}, ValueError, "at least one positive .* found none"),
        ((QUERY, POSITIVES, QUEUE.double()), {}, TypeError, "queue: expected query's dtype torch.float32"),
        ((QUERY, [1.0], QUEUE), {}, TypeError, "positives: expected a torch.Tensor, found list"),
        ((QUERY, POSITIVES, QUEUE, 0), {}, ValueError, "temperature: expected a number above 0, found 0"),
        ((QUERY, POSITIVES, QUEUE, -1.0), {}, ValueError, "temperature: expected a finite number"),
        (
            (QUERY, POSITIVES, QUEUE, 0.1, "sum"),
            {},
            ValueError,
            "multi_positive: expected one of 'log_sum', 'mean_log'",
        ),
        (
            (QUERY, POSITIVES, QUEUE),
            {"reduction": "max"},
            ValueError,
            "reduction: expected one of 'mean', 'sum', 'none'",
        ),
    ],
)
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        skelkern.info_nce(*arguments, **options)
