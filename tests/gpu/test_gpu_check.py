"""What `scripts/gpu_check.sh` decides and prints, without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gpu import device, gate, report, timing, versions

ROOT = Path(__file__).parents[2]

RACE = {
    "milliseconds": {"official": [4, 5, 6], "skelkern": [1, 1, 1]},
    "ratios": {"official": [4, 5, 6], "official, compiled": [2, 2.5, 3], "plain": [3, 3, 3], "skelkern": [1, 1, 1]},
    "peak_bytes": {"official": 3000, "skelkern": 1000},
    "errors": {"official": 0.0, "official, reduce-overhead": 0.5, "skelkern": 1e-7},
    "failures": {"skelkern, captured": "RuntimeError: not permitted"},
    "share_of_bandwidth": 0.71,
    "share_of_product": 0.05,
}


@pytest.mark.parametrize(
    ("driver", "runtime", "words"),
    [
        ("580.159.04", "13.0", None),
        ("550.54", "12.8", None),
        ("570.86", "13.0", "needs driver R580 or newer, found 570.86"),
        ("unknown", "13.0", "nvidia-smi found no driver"),
        ("580.1", None, "built without CUDA"),
    ],
)
def test_what_a_driver_is_too_old_for(driver, runtime, words):
    found = versions.problem(driver, runtime)
    assert found is None if words is None else words in found


def test_outcome_of_a_test_run(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text('<testsuites><testsuite tests="9" failures="1" errors="1" skipped="3"/></testsuites>')
    found = gate._outcome(path, 2.0)
    assert (found.passed, found.failed, found.skipped, found.holds) == (4, 2, 3, False)
    path.write_text('<testsuites><testsuite tests="3" failures="0" errors="0" skipped="3"/></testsuites>')
    assert not gate._outcome(path, 2.0).holds, "nothing has passed where everything was skipped"
    path.write_text('<testsuites><testsuite tests="3" failures="0" errors="0" skipped="1"/></testsuites>')
    assert gate._outcome(path, 2.0).holds


def test_every_gpu_implementation_has_tests_and_a_race():
    for op in gate.implementations():
        assert (ROOT / f"tests/kernels/test_{op}.py").exists(), op
        assert (ROOT / f"benchmarks/bench_{op}.py").exists(), op


def test_only_what_has_passed_is_raced(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "WORK", tmp_path)
    assert "the tests of knn have not run" in timing.why_not(("knn",))
    outcomes = {"knn": {"cuda": {"holds": True}}, "chamfer": {"cuda": {"holds": False}}}
    (tmp_path / "gate.json").write_text(json.dumps(outcomes))
    assert timing.why_not(("knn",)) == ""
    assert timing.why_not(("knn", "chamfer")) == "the tests of chamfer failed"


def test_the_page_has_no_ratio_without_tests_or_agreement():
    unequal = {**RACE, "ratios": {"official": [1, 1, 1]}, "failures": {"skelkern": "ValueError: no"}}
    races = {"knn": {"left_out": "the tests of knn failed"}, "chamfer": {"races": {"a": RACE, "b": unequal}}}
    rows = report._race_rows(races)
    assert rows[0][:3] == ("knn", "the tests of knn failed", "")
    assert rows[1] == (
        *("chamfer", "a", "1 ms (1–1)", "RuntimeError: not permitted", "5x (4–6) official", "2.5x (2–3)", ""),
        *("3x (3–3) plain", "1/3", "71%", "5%"),
    )
    assert rows[2][2] == "no agreement: {'skelkern': 'ValueError: no'}" and not any(rows[2][3:])
    assert {len(row) for row in rows} == {len(report.HEADER)}


def test_parts_are_known():
    found = subprocess.run([ROOT / "scripts/gpu_check.sh", "--dry-run", "speed"], capture_output=True, text=True)
    assert found.returncode == 2 and "unknown part: speed" in found.stderr
