"""Tables of race results, and what machine they are from."""

import platform
from pathlib import Path
from typing import Any

import torch

from skelkern import _cpu

Results = dict[str, dict[str, dict[str, Any]]]  # allocator setting -> case -> race.Result as data

HEADER = ("op", "size", "ours", "official, default", "official, no-mmap", "best of the other peers", "memory", "floor")


def machine() -> dict[str, str]:
    """Everything that a time depends on but the code."""
    return {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "level": _cpu.level(),
        "torch": torch.__version__,
        "compiler": _cpu.compiler(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def _processor() -> str:
    fields = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    described = (f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields)
    return f"{fields.get('model name', platform.processor())} ({', '.join(described)})"


def rows(op: str, results: Results) -> list[tuple[str, ...]]:
    """One row for each case of an op, in words."""
    no_mmap = results.get("no-mmap", {})
    return [(op, case, *_cells(default, no_mmap.get(case))) for case, default in results["default"].items()]


def _cells(default: dict[str, Any], no_mmap: dict[str, Any] | None) -> tuple[str, ...]:
    if "skelkern" not in default["ratios"]:
        return ("failed or disagrees",) + ("",) * 5
    official, *others = [name for name in default["ratios"] if name != "skelkern"]
    best = min(others, key=lambda name: default["ratios"][name][1], default=None)
    return (
        f"{default['milliseconds']['skelkern']:.3g} ms",
        _ratio(default, official),
        "not raced" if no_mmap is None else _ratio(no_mmap, official),
        f"{_ratio(default, best)} {best}" if best else "",
        f"1/{default['peak_bytes'][official] / max(default['peak_bytes']['skelkern'], 1):.3g}",
        f"{default['share_of_floor']:.0%}",
    )


def _ratio(result: dict[str, Any], peer: str) -> str:
    if peer not in result["ratios"]:
        return "no agreement"
    low, median, high = result["ratios"][peer]
    return f"{median:.3g}x ({low:.3g}–{high:.3g})"


def markdown(table: list[tuple[str, ...]]) -> str:
    """A Markdown table under HEADER."""
    lines = [HEADER, tuple("---" for _ in HEADER), *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aligned(table: list[tuple[str, ...]]) -> str:
    """The same table for a terminal."""
    widths = [max(len(line[column]) for line in (HEADER, *table)) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (HEADER, *table)
    )
