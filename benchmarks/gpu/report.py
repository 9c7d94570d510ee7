"""Gathers what the parts left into one JSON file, and renders such a file as a page.

python -m gpu.report gather benchmarks/results/gpu-NAME.json
python -m gpu.report render benchmarks/results/gpu-NAME.json docs/gpu_results.md
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from gpu import device

OURS, CAPTURED = "skelkern", "skelkern, captured"
HEADER = (
    "op",
    "size",
    "ours",
    "captured",
    "eager",
    "compiled",
    "reduce-overhead",
    "best other",
    "memory",
    "bandwidth",
    "product",
)


def gather(target: torch.device) -> dict[str, Any]:
    """Everything that lies in build/gpu_check, with the machine it is from."""
    peaks = {
        "copy, TB/s": device.copy_bandwidth(target) / 1e12,
        "product of float32, TFLOP/s": device.product_peak(target, torch.float32) / 1e12,
        "product of bfloat16, TFLOP/s": device.product_peak(target, torch.bfloat16) / 1e12,
    }
    races = {path.stem: json.loads(path.read_text()) for path in sorted((device.WORK / "timing").glob("*.json"))}
    parts = {name: _read(device.WORK / f"{name}.json") for name in ("gate", "steps")}
    return {"machine": device.description(target), "peaks": peaks, **parts, "races": races}


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def render(found: dict[str, Any]) -> str:
    """The page: machine, tests, races, steps."""
    lines = ["# Results on a GPU", "", *(f"* {name}: {value}" for name, value in found["machine"].items())]
    lines += [f"* measured {name}: {value:.3g}" for name, value in found["peaks"].items()]
    lines += ["", "## Tests", "", *_table(("op", "implementation", "outcome"), _gate_rows(found["gate"]))]
    lines += ["", "## Ops", "", EXPLANATION, "", *_table(HEADER, _race_rows(found["races"]))]
    header = ("step", "plain", "kernels", "captured", "plain / kernels", "memory", "losses")
    lines += ["", "## Training steps", "", *_table(header, _step_rows(found["steps"]))]
    return "\n".join(lines) + "\n"


EXPLANATION = """Forward and, where there is one, backward, in float32 at full precision, by events on the stream: ours
in milliseconds (20th to 80th percentile), the same from a CUDA graph, and time of a peer / ours, median of paired
rounds. Memory: peak bytes of the eager formulation / ours. Bandwidth and product: share of the rate of a measured copy
and of a measured float32 product that ours reaches, counting what must be moved and computed. No ratio for an op whose
tests have not passed."""


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, tuple("---" for _ in header), *rows)]


def _gate_rows(gate: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for op, impls in gate.items():
        for impl, found in impls.items():
            counts = f"{found['passed']} passed, {found['failed']} failed, {found['skipped']} skipped"
            rows.append((op, impl, found["error"].splitlines()[-1] if found["error"] else counts))
    return rows


def _race_rows(races: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for op, found in races.items():
        if "left_out" in found:
            rows.append((op, found["left_out"].splitlines()[-1], *("",) * (len(HEADER) - 2)))
        rows.extend((op, case, *_race_cells(one)) for case, one in found.get("races", {}).items())
    return rows


def _race_cells(one: dict[str, Any]) -> tuple[str, ...]:
    ratios = one["ratios"]
    if OURS not in ratios:
        return (f"no agreement: {one['failures'] or one['errors']}",) + ("",) * (len(HEADER) - 3)
    eager = next(iter(ratios))
    compiled = {mode: next((name for name in ratios if name.endswith(f", {mode}")), None) for mode in MODES}
    others = [name for name in ratios if name not in (OURS, CAPTURED, eager, *compiled.values())]
    best = min(others, key=lambda name: ratios[name][1], default=None)
    return (
        _spread(one["milliseconds"][OURS], " ms"),
        _captured_cell(one),
        f"{_spread(ratios[eager], 'x')} {eager}",
        *(_spread(ratios.get(name), "x") for name in compiled.values()),
        f"{_spread(ratios[best], 'x')} {best}" if best else "",
        _memory(one["peak_bytes"][eager], one["peak_bytes"][OURS]),
        f"{one['share_of_bandwidth']:.0%}",
        f"{one['share_of_product']:.0%}",
    )


MODES = ("compiled", "reduce-overhead")


def _captured_cell(one: dict[str, Any]) -> str:
    if CAPTURED in one["milliseconds"]:
        return _spread(one["milliseconds"][CAPTURED], " ms")
    return one["failures"].get(CAPTURED, "no agreement" if CAPTURED in one["errors"] else "")


def _memory(theirs: int, ours: int) -> str:
    """Peak bytes, theirs / ours; nothing where none were counted."""
    return f"1/{theirs / max(ours, 1):.3g}" if theirs else ""


def _step_rows(steps: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, found in steps.items():
        if "left_out" in found:
            rows.append((name, found["left_out"], *("",) * 5))
            continue
        times, peak, losses = found["milliseconds"], found["peak_bytes"], found["losses"]
        captured = _spread(times.get("kernels, captured"), " ms") or found["captured"]
        memory = _memory(peak["plain"], peak["kernels"])
        agree = f"{losses['plain']:.6g}, {losses['kernels']:.6g}"
        plain, kernels = (_spread(times[key], " ms") for key in ("plain", "kernels"))
        rows.append((name, plain, kernels, captured, _spread(found["ratio"], "x"), memory, agree))
    return rows


def _spread(values: list[float] | None, unit: str) -> str:
    if values is None:
        return ""
    low, median, high = values
    return f"{median:.3g}{unit} ({low:.3g}–{high:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    gathering = commands.add_parser("gather", help="write the JSON file")
    gathering.add_argument("file", type=Path)
    gathering.add_argument("--dry-run", action="store_true", help="on the CPU")
    rendering = commands.add_parser("render", help="write the page")
    rendering.add_argument("file", type=Path)
    rendering.add_argument("page", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "gather":
        found = gather(device.target(arguments.dry_run))
        arguments.file.write_text(json.dumps(found, indent=1) + "\n")
    else:
        arguments.page.write_text(render(json.loads(arguments.file.read_text())))


if __name__ == "__main__":
    main()
