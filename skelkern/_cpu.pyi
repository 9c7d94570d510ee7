"""The compiled module; addresses are of contiguous float32 arrays (`csrc/bindings_cpu.cpp`)."""

def level() -> str: ...
def compiler() -> str: ...
def cross_correlation(
    z1: int,
    z2: int,
    n: int,
    d: int,
    off_diagonal_weight: float,
    eps: float,
    gradient1: int,
    gradient2: int,
    threads: int,
) -> float: ...
