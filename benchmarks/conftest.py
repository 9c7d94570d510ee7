"""`--sizes`, `--results`, the fixture that runs a case's race, and the table at the end."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import race
import table

LIMITS = {
    "smoke": 300,
    "standard": 600,
    "full": 3600,
}  # seconds for the races of a file, which its first test waits for
RESULTS = pytest.StashKey[dict[str, dict[str, dict[str, Any]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sizes", choices=race.SIZES, default="standard", help="which cases race, and for how long")
    parser.addoption("--results", type=Path, help="write the results to FILE.json and FILE.md", metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = race.chosen(metafunc.module.CASES, metafunc.config.getoption("--sizes"))
        metafunc.parametrize("case", cases, ids=lambda case: case.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "case" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(LIMITS[config.getoption("--sizes")]))


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Races of the whole benchmark file, by allocator setting and case."""
    path = Path(request.module.__file__)
    sizes = request.config.getoption("--sizes")
    # the times of a smoke test are not worth a second process
    found = race.race_module(path, sizes, ["default"] if sizes == "smoke" else list(race.ALLOCATORS))
    request.config.stash[RESULTS][path.stem.removeprefix("bench_")] = found
    return found


@pytest.fixture
def compare(benchmark: Any, results: dict[str, Any]) -> Any:
    """Reports our time through `benchmark`, everything else in its extra_info; fails where results disagree."""

    def run(case: race.Case) -> None:
        benchmark.extra_info.update({allocator: found[case.name] for allocator, found in results.items()})
        steps = race.make_steps(case, case.inputs(), with_compiled=False)
        benchmark.pedantic(steps[race.OURS], rounds=5, warmup_rounds=1)
        for allocator, found in results.items():
            result = found[case.name]
            assert race.OURS in result["ratios"], f"{allocator}: {result['failures']} {result['errors']}"
            allowed = race.agreement(case.random)
            wrong = {name: error for name, error in result["errors"].items() if error > allowed}
            assert not wrong, f"{allocator}: results differ from the official formulation: {wrong}"

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    found = config.stash[RESULTS]
    if not found:
        return
    lines = [row for op, results in found.items() for row in table.rows(op, results)]
    machine = table.machine()
    terminalreporter.section("races: ratios are other time / ours, median (p20–p80) of paired rounds")
    terminalreporter.line(", ".join(machine.values()))
    terminalreporter.line(table.aligned(lines))
    target = config.getoption("--results")
    if target is not None:
        target.with_suffix(".json").write_text(json.dumps({"machine": machine, "results": found}, indent=1) + "\n")
        described = "\n".join(f"* {name}: {value}" for name, value in machine.items())
        target.with_suffix(".md").write_text(f"{described}\n\n{table.markdown(lines)}\n")
