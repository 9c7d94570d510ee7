"""Runs the tests of every op over its GPU implementations and writes which ops passed to build/gpu_check/gate.json."""

import argparse
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu import device

SHARED = ("tests/gpu", "tests/kernels/test_every_op.py")  # what concerns every op


@dataclass(frozen=True)
class Outcome:
    """Counts of one run of pytest; `error` where it did not come to an end."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def holds(self) -> bool:
        return self.passed > 0 and self.failed == 0 and not self.error


def implementations() -> dict[str, list[str]]:
    """The GPU implementations of every op that has one, by folder."""
    found: dict[str, list[str]] = {}
    for path in sorted((device.ROOT / "skelkern/ops").glob("*/*.py")):
        if path.stem in ("cuda", "triton"):
            found.setdefault(path.parent.name, []).append(path.stem)
    return found


def run(paths: list[str], impl: str, seconds: float, dry_run: bool) -> Outcome:
    """Runs tests over an implementation; a dry run only collects them."""
    report = device.WORK / "junit.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--impl", impl, f"--junitxml={report}"]
    if dry_run:
        command.append("--collect-only")
    start = time.perf_counter()
    try:
        found = subprocess.run(
            [*command, *paths], cwd=device.ROOT, env=_environment(), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Outcome(seconds=seconds, error=f"not done after {seconds:.0f} s")
    taken = time.perf_counter() - start
    if found.returncode not in (0, 1):
        return Outcome(seconds=taken, error=(found.stdout + found.stderr)[-2000:])
    if found.returncode == 1:
        print(found.stdout[-6000:])
    if dry_run:
        return Outcome(seconds=taken)
    return _outcome(report, taken)


def _environment() -> dict[str, str]:
    """That of this process without what makes Triton interpret its kernels."""
    return {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}


def _outcome(report: Path, taken: float) -> Outcome:
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    counts = {name: 0 for name in ("tests", "failures", "errors", "skipped")}
    for suite in suites:
        for name in counts:
            counts[name] += int(suite.get(name, "0"))
    failed, skipped = counts["failures"] + counts["errors"], counts["skipped"]
    return Outcome(counts["tests"] - failed - skipped, failed, skipped, taken)


def collect() -> dict[str, dict[str, Any]]:
    """Whether pytest finds the tests that `run_tests` would run: one outcome for each implementation."""
    outcomes: dict[str, dict[str, Any]] = {"collected": {}}
    for impl in ("triton", "cuda"):
        modules = [f"tests/kernels/test_{op}.py" for op, impls in implementations().items() if impl in impls]
        outcome = run([*modules, *SHARED], impl, 120.0, dry_run=True)
        outcomes["collected"][impl] = {**asdict(outcome), "holds": False}
        print(f"{impl}: {outcome.error or f'collected in {outcome.seconds:.0f} s'}", flush=True)
    return outcomes


def run_tests(ops: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Outcomes by op and implementation; without `ops` of all, and of the tests that concern every op."""
    end = time.perf_counter() + seconds
    runs = [(op, impl, [f"tests/kernels/test_{op}.py"]) for op, impls in implementations().items() for impl in impls]
    runs = [one for one in runs if not ops or one[0] in ops]
    runs += [("every op", impl, list(SHARED)) for impl in ("triton", "cuda") if not ops]
    outcomes: dict[str, dict[str, Any]] = {}
    for op, impl, paths in runs:
        outcome = run(paths, impl, max(1.0, end - time.perf_counter()), dry_run=False)
        outcomes.setdefault(op, {})[impl] = {**asdict(outcome), "holds": outcome.holds}
        counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
        print(f"{op}, {impl}: {outcome.error or counts} in {outcome.seconds:.0f} s", flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", help="folders of skelkern/ops; all that have a GPU implementation by default")
    parser.add_argument("--dry-run", action="store_true", help="collect the tests, run none")
    parser.add_argument("--seconds", type=float, default=420.0, help="for everything; what is left then has not passed")
    arguments = parser.parse_args()
    device.target(arguments.dry_run)
    device.WORK.mkdir(parents=True, exist_ok=True)
    outcomes = collect() if arguments.dry_run else run_tests(arguments.ops, arguments.seconds)
    (device.WORK / "gate.json").write_text(json.dumps(outcomes, indent=1) + "\n")
    wrong = [op for op, found in outcomes.items() for each in found.values() if each["error"] or each["failed"]]
    if wrong:
        raise SystemExit(f"failed: {', '.join(dict.fromkeys(wrong))}")


if __name__ == "__main__":
    main()
