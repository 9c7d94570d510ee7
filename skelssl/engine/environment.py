"""Which code computed something: versions, and the commit where it runs from a checkout."""

import platform
import subprocess
from functools import cache
from pathlib import Path

import lightning_fabric
import numpy
import torch

import skelkern


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    return {
        "skelkern": skelkern.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "lightning-fabric": lightning_fabric.__version__,
        "python": platform.python_version(),
    }


@cache
def commit() -> str:
    """The commit of the checkout that this file lies in, a "+" where files differ; "" where there is none."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    found = _git(root, "rev-parse", "HEAD")
    return f"{found}+" if found and _git(root, "status", "--porcelain", "--untracked-files=no") else found


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where it fails or is absent."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
