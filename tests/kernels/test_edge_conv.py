import copy
import socket

import pytest
import torch
import torch.multiprocessing as mp
from budget import check_budget, relative_error
from torch.autograd import gradcheck

import skelkern
from skelkern.ops.edge_conv import reference

DIFFERENTIABLE = ("x", "weight", "gamma", "beta")
# (B, N, C, C', k): one neighbour; channels that fill no vector, no block, several blocks; few and many clouds
SHAPES = [(1, 7, 3, 5, 1), (2, 23, 16, 33, 4), (3, 40, 17, 64, 7), (9, 31, 5, 100, 3), (70, 6, 2, 3, 2)]


def of_few_bits(generator, *shape, steps):
    """Multiples of 1 / steps: edges are exact in float32, so that every formulation finds the same maxima."""
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * steps).round() / steps


def make_inputs(b, n, c, c_out, k, share=None, **options):
    """gamma of either sign; `share` of the points in a mask."""

    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        inputs = {
            "x": of_few_bits(generator, b, n, c, steps=16) + 2,
            "neighbors": torch.randint(n, (b, n, k), generator=generator),
            "weight": of_few_bits(generator, c_out, 2 * c, steps=8),
            "gamma": torch.randn(c_out, generator=generator, dtype=torch.float64),
            "beta": torch.randn(c_out, generator=generator, dtype=torch.float64),
        }
        if share is not None:
            inputs["mask"] = torch.rand(b, n, generator=generator) < share
        return {**inputs, **options}

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_error_budget(shape):
    check_budget(skelkern.edge_conv, make_inputs(*shape), DIFFERENTIABLE)


@pytest.mark.parametrize("shape", SHAPES[1:4])
def test_error_budget_with_a_mask(shape):
    check_budget(skelkern.edge_conv, make_inputs(*shape, share=0.7), DIFFERENTIABLE)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_error_budget_with_running_statistics(slope):
    def make(seed):
        inputs = make_inputs(3, 40, 17, 64, 7, training=False, negative_slope=slope)(seed)
        generator = torch.Generator().manual_seed(seed)
        inputs["running_mean"] = torch.randn(64, generator=generator, dtype=torch.float64)
        inputs["running_var"] = 1 + torch.rand(64, generator=generator, dtype=torch.float64)
        return inputs

    check_budget(skelkern.edge_conv, make, DIFFERENTIABLE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    def make(seed):
        inputs = make_inputs(2, 23, 16, 33, 4)(seed)
        generator = torch.Generator().manual_seed(seed)
        inputs["x"] = torch.randint(-3, 4, (2, 23, 16), generator=generator).double()
        return inputs

    check_budget(skelkern.edge_conv, make, DIFFERENTIABLE, dtype=dtype)


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_of_the_reference(training):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 3), (4, 6), (4,), (4,))
    leaves = [torch.randn(*s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    neighbors = torch.randint(5, (2, 5, 3), generator=generator)
    statistics = (None, None) if training else (torch.zeros(4).double(), torch.ones(4).double())
    mask = torch.rand(2, 5, generator=generator) < 0.8

    def function(x, weight, gamma, beta):
        return reference.edge_conv(x, neighbors, weight, gamma, beta, *statistics, mask, 1e-5, 0.2)[0]

    assert gradcheck(function, leaves)


def test_reference_is_the_modules_of_dgcnn():
    inputs = make_inputs(2, 11, 4, 6, 3)(0)
    x, neighbors = inputs["x"], inputs["neighbors"]
    norm = torch.nn.BatchNorm2d(6).double()
    with torch.no_grad():
        norm.weight.copy_(inputs["gamma"]), norm.bias.copy_(inputs["beta"])
    others = torch.stack([cloud[rows] for cloud, rows in zip(x, neighbors, strict=True)])
    own = x[:, :, None].expand_as(others)
    edges = torch.cat([others - own, own], dim=3).permute(0, 3, 1, 2)
    mapped = norm(torch.nn.functional.conv2d(edges, inputs["weight"][:, :, None, None]))
    expected = torch.nn.functional.leaky_relu(mapped, 0.2).amax(dim=3).transpose(1, 2)
    running = torch.zeros(6).double(), torch.ones(6).double()
    found = skelkern.edge_conv(**inputs, running_mean=running[0], running_var=running[1], impl="reference")
    assert torch.allclose(found, expected)
    assert torch.allclose(running[0], norm.running_mean)
    assert torch.allclose(running[1], norm.running_var)


@pytest.mark.parametrize("share", [None, 0.5])
def test_running_statistics(share, kernel):
    inputs = make_inputs(3, 40, 17, 40, 7, share)(1)
    inputs = {name: value if name in ("neighbors", "mask") else value.float() for name, value in inputs.items()}
    states = {}
    for impl in (kernel, "reference"):
        states[impl] = torch.full((40,), 3.0), torch.full((40,), 2.0)
        skelkern.edge_conv(**inputs, running_mean=states[impl][0], running_var=states[impl][1], momentum=0.3, impl=impl)
    for ours, expected in zip(states[kernel], states["reference"], strict=True):
        assert relative_error(ours, expected) < 1e-6


def test_a_large_mean_costs_no_digits():
    def make(seed):
        inputs = make_inputs(2, 30, 4, 8, 5)(seed)
        inputs["x"] = inputs["x"] + 200
        return inputs

    check_budget(skelkern.edge_conv, make, ("gamma", "beta"))


def test_ties_go_to_the_first_neighbour(impl):
    """Equal edges, all equal by gamma = 0, and all cut to 0 by a slope of 0: the gradient reaches slot 0 only."""
    x = torch.tensor([[[1.0], [2.0], [2.0]]], requires_grad=True)
    neighbors = torch.tensor([[[1, 2], [1, 1], [1, 2]]])
    weight = torch.tensor([[1.0, 1.0]], requires_grad=True)
    mean, variance = torch.zeros(1), torch.ones(1)
    y = skelkern.edge_conv(x, neighbors, weight, torch.ones(1), torch.zeros(1), mean, variance, False, impl=impl)
    (gradient,) = torch.autograd.grad(y[0, 0, 0], x)
    assert gradient.flatten().tolist() == pytest.approx([0, 1, 0], abs=1e-4)
    gamma = torch.zeros(1, requires_grad=True)
    y = skelkern.edge_conv(
        x, torch.tensor([[[0, 1], [1, 0], [2, 0]]]), weight, gamma, torch.ones(1), mean, variance, False, impl=impl
    )
    (gradient,) = torch.autograd.grad(y[0, 0, 0], gamma)
    assert gradient.item() == pytest.approx(1.0, abs=1e-4), "of the edge to slot 0, which is x₀ itself"


def test_masked_points_change_nothing(impl):
    inputs = {n: v if n in ("neighbors", "mask") else v.float() for n, v in make_inputs(2, 30, 5, 9, 4, 0.6)(0).items()}
    leaves = [inputs["x"], inputs["weight"]]
    results = []
    for garbage in (0.0, float("nan")):
        x, weight = (leaf.clone().requires_grad_() for leaf in leaves)
        filled = torch.where(inputs["mask"][..., None], x, garbage)
        y = skelkern.edge_conv(**{**inputs, "x": filled, "weight": weight}, impl=impl)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, weight])])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert (results[0][0][~inputs["mask"]] == 0).all()


def test_points_without_edges_are_zero(kernel):
    inputs = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(2, 6, 3, 4, 2)(0).items()}
    inputs["neighbors"][:] = 5
    mask = torch.tensor([[True] * 5 + [False], [True] * 6])
    for impl in (kernel, "reference"):
        y = skelkern.edge_conv(**inputs, mask=mask, impl=impl)
        assert (y[0] == 0).all()
        assert (y[1] != 0).any()


@pytest.mark.parametrize("training", [True, False])
def test_nan_propagates(training):
    inputs = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(1, 9, 3, 40, 2)(0).items()}
    inputs["x"][0, 4, 1] = torch.nan
    inputs["neighbors"][:] = torch.tensor([0, 4])
    statistics = {"running_mean": torch.zeros(40), "running_var": torch.ones(40), "training": training}
    assert skelkern.edge_conv(**inputs, **statistics).isnan().all()


def test_without_gradients_nothing_is_kept():
    inputs = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(2, 23, 16, 33, 4)(0).items()}
    expected = skelkern.edge_conv(**{**inputs, "x": inputs["x"].requires_grad_()})
    with torch.no_grad():
        assert torch.equal(skelkern.edge_conv(**inputs), expected)


def test_gradients_that_are_not_wanted():
    inputs = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(2, 23, 16, 33, 4)(0).items()}
    leaves = {name: inputs[name].clone().requires_grad_() for name in DIFFERENTIABLE}
    expected = torch.autograd.grad(skelkern.edge_conv(**{**inputs, **leaves}).sum(), list(leaves.values()))
    for i, name in enumerate(DIFFERENTIABLE):
        leaf = inputs[name].clone().requires_grad_()
        (found,) = torch.autograd.grad(skelkern.edge_conv(**{**inputs, name: leaf}).sum(), leaf)
        assert torch.equal(found, expected[i])


@pytest.mark.cpu_kernel
def test_many_neighbours_are_left_to_the_reference():
    inputs = make_inputs(1, 5, 3, 4, 300)(0)
    inputs = {name: v if name == "neighbors" else v.float() for name, v in inputs.items()}
    assert "300 neighbours, more than 256" in str(skelkern.explain(skelkern.edge_conv, **inputs))
    assert skelkern.edge_conv(**inputs).shape == (1, 5, 4)


def test_follows_autocast(kernel):
    inputs = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(2, 23, 16, 33, 4)(0).items()}
    with torch.autocast(inputs["x"].device.type, dtype=torch.bfloat16):
        for impl in (kernel, "reference"):
            assert skelkern.edge_conv(**inputs, impl=impl).dtype == torch.bfloat16


def test_empty_batch():
    found = skelkern.edge_conv(
        torch.zeros(0, 5, 3), torch.zeros(0, 5, 2, dtype=torch.long), torch.zeros(4, 6), torch.ones(4), torch.zeros(4)
    )
    assert found.shape == (0, 5, 4)


def _edge_conv_in_process(rank, port, folder, impl):
    store = torch.distributed.TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    inputs = make_inputs(4, 13, 3, 5, 4, 0.8)(0)
    own = slice(0, 1) if rank == 0 else slice(1, 4)
    for name in ("x", "neighbors", "mask"):
        inputs[name] = inputs[name][own].clone()
    inputs = {n: v if n in ("neighbors", "mask") else v.float() for n, v in inputs.items()}
    leaves = {name: inputs[name].requires_grad_() for name in DIFFERENTIABLE}
    y = skelkern.edge_conv(**inputs, group=torch.distributed.group.WORLD, impl=impl)
    y.square().sum().backward()
    torch.save([y.detach(), *(leaf.grad for leaf in leaves.values())], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.cpu_kernel
def test_statistics_over_processes(impl, tmp_path):
    """Two processes with 1 and 3 of 4 clouds give what one process gives with all; weights' gradients add up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (port, str(tmp_path), impl)
    mp.start_processes(_edge_conv_in_process, args=arguments, nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    inputs = make_inputs(4, 13, 3, 5, 4, 0.8)(0)
    leaves = {name: inputs[name].requires_grad_() for name in DIFFERENTIABLE}
    y = skelkern.edge_conv(**inputs, impl="reference")
    y.square().sum().backward()
    assert relative_error(torch.cat([first[0], second[0]]), y.detach()) < 1e-6
    assert relative_error(torch.cat([first[1], second[1]]), leaves["x"].grad) < 1e-5
    for i, name in enumerate(DIFFERENTIABLE[1:], start=2):
        assert relative_error(first[i] + second[i], leaves[name].grad) < 1e-5


GOOD = {name: v if name == "neighbors" else v.float() for name, v in make_inputs(2, 5, 3, 4, 2)(0).items()}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(2, 5)}, ValueError, r"x: expected shape \(B, N, C\), found \(2, 5\)"),
        ({"weight": torch.zeros(4, 7)}, ValueError, "weight: expected 6 columns, twice x's channels, found 7"),
        ({"weight": torch.zeros(4, 6).double()}, TypeError, "weight: expected x's dtype torch.float32"),
        ({"gamma": torch.zeros(5)}, ValueError, r"gamma: expected shape \(C'\) with C'=4, found \(5,\)"),
        ({"neighbors": torch.full((2, 5, 2), 5)}, ValueError, r"neighbors: expected values in \[0, 5\), found 5"),
        ({"neighbors": torch.full((2, 5, 2), -1)}, ValueError, r"neighbors: expected values in \[0, 5\), found -1"),
        ({"neighbors": torch.zeros(2, 5, 0, dtype=torch.long)}, ValueError, "at least one neighbour .* found none"),
        ({"neighbors": torch.zeros(2, 5, 2)}, TypeError, "neighbors: expected torch.int64, found torch.float32"),
        ({"training": False}, ValueError, "running_mean, running_var: expected tensors when not training"),
        ({"negative_slope": 1.5}, ValueError, "negative_slope: expected a finite number"),
        ({"mask": torch.zeros(2, 5, dtype=torch.bool)}, ValueError, "more than one edge .* found 0"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, ValueError, r"mask: expected shape \(B, N\) with B=2, N=5"),
    ],
)
def test_wrong_arguments(changes, error, message, impl):
    with pytest.raises(error, match=message):
        skelkern.edge_conv(**{**copy.copy(GOOD), **changes}, impl=impl)
