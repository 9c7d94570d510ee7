import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import race
import table


class Clock:
    """Stands for the time module: time passes in steps alone."""

    now = 0.0

    def perf_counter(self):
        return self.now


def peer(value=1.0, log=None, name="", clock=None, seconds=0.0):
    def step():
        if log is not None:
            log.append(name)
        if clock is not None:
            clock.now += seconds
        return (torch.tensor([value]),)

    return step


def test_ratio_is_the_peers_time_over_ours(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(race, "time", clock)
    steps = {"official": peer(clock=clock, seconds=0.5), race.OURS: peer(clock=clock, seconds=0.25)}
    result = race.race(steps, seconds=30)
    assert result.ratios == {"official": (2, 2, 2), race.OURS: (1, 1, 1)}
    assert result.milliseconds == {"official": 500, race.OURS: 250}
    assert clock.now > 30


def test_peers_take_turns_and_the_order_rotates():
    log: list[str] = []
    steps = {name: peer(1.0, log, name) for name in ("a", "b", "c")}
    race._time_in_turns(steps, seconds=0)
    assert log == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


def test_a_peer_that_disagrees_has_no_ratio():
    steps = {"official": peer(), "wrong": peer(value=1.001), race.OURS: peer()}
    result = race.race(steps, seconds=0)
    assert result.errors["wrong"] == pytest.approx(1e-3, rel=1e-2)
    assert "wrong" not in result.ratios
    assert race.OURS in result.ratios


def test_random_peers_agree_in_size_alone():
    def draws(scale, seed):
        return lambda: (scale * torch.randn(race.MANY, generator=torch.Generator().manual_seed(seed)),)

    steps = {"official": draws(1, 0), race.OURS: draws(1, 1), "twice as large": draws(2, 2)}
    assert set(race.race(steps, seconds=0, random=True).ratios) == {"official", race.OURS}
    assert race.OURS not in race.race(steps, seconds=0).ratios


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_no_agreement(value):
    result = race.race({"official": peer(), race.OURS: peer(value=value)}, seconds=0)
    assert race.OURS not in result.ratios


def test_peers_may_agree_in_what_is_observed():
    steps = {"official": peer(value=1.0), race.OURS: peer(value=-1.0)}
    assert race.OURS in race.race(steps, seconds=0, observe=torch.abs).ratios
    assert race.OURS not in race.race(steps, seconds=0).ratios


def test_a_peer_that_fails_is_named_and_the_others_race_on():
    def fails():
        raise RuntimeError("no such kernel\nmore")

    result = race.race({"official": peer(), "broken": fails, race.OURS: peer()}, seconds=0)
    assert result.failures == {"broken": "RuntimeError: no such kernel"}
    assert set(result.ratios) == {"official", race.OURS}


def test_peak_bytes_counts_what_lives_at_once():
    def step():
        total = torch.zeros(1000)
        for _ in range(5):
            total = total + torch.ones(1000)  # the sum, the ones and the next sum
        return (total,)

    assert 3 * 4000 <= race.peak_bytes(step) < 4 * 4000


def test_gradients_are_part_of_a_step():
    case = race.Case(
        "x", {"official": lambda x: x.square().sum()}, lambda: (torch.ones(3, requires_grad=True),), flops=0, bytes=0
    )
    output, gradient = race.make_steps(case, case.inputs(), with_compiled=False)["official"]()
    assert gradient.shape == (3,)
    assert output.item() == 3


def test_sizes_choose_cases():
    cases = [race.Case(name, {}, tuple, 0, 0, sizes=name) for name in race.SIZES]
    chosen = {sizes: [case.name for case in race.chosen(cases, sizes)] for sizes in race.SIZES}
    assert chosen == {"smoke": ["smoke"], "standard": ["standard"], "full": ["standard", "full"]}


def test_floor_is_positive_and_grows_with_the_work():
    small, large = (race.floor_seconds(race.Case("", {}, tuple, flops=flops, bytes=0)) for flops in (1e9, 1e10))
    assert 0 < small < large


def test_both_allocators_race_in_processes_of_their_own(tmp_path):
    (tmp_path / "bench_sum.py").write_text(
        "import torch\n"
        "from race import OURS, Case\n"
        "functions = {'official': torch.sum, OURS: torch.sum}\n"
        "CASES = [Case('ones', functions, lambda: (torch.ones(9),), 9, 36, sizes='smoke')]\n"
    )
    results = race.race_module(tmp_path / "bench_sum.py", "smoke")
    assert set(results) == {"default", "no-mmap"}
    ((op, case, *cells),) = table.rows("sum", results)
    assert (op, case) == ("sum", "ones")
    assert cells[0].endswith(" ms")
    assert "x (" in cells[1]
    assert "| sum | ones |" in table.markdown([(op, case, *cells)])


def test_a_setting_that_did_not_race_is_said_so():
    result = race.race({"official": peer(), race.OURS: peer()}, seconds=0)
    ((*_, default, no_mmap, _, _, _),) = table.rows("sum", {"default": {"ones": result.__dict__}})
    assert "x (" in default
    assert no_mmap == "not raced"


def test_a_broken_benchmark_file_is_an_error_with_its_traceback(tmp_path):
    (tmp_path / "bench_broken.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(RuntimeError, match="no_such_module_anywhere"):
        race.race_module(tmp_path / "bench_broken.py", "smoke")
