"""Damaged copies of a file, the same ones in every run."""

import random
from collections.abc import Iterator


def mutations(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`count` damaged copies: bytes changed, cut off, left out, repeated or put in."""
    generator = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 1, 1, 2, 5])):
            _damage(damaged, generator)
        yield bytes(damaged)


def _damage(damaged: bytearray, generator: random.Random) -> None:
    place = generator.randrange(len(damaged) + 1)
    length = generator.choice([1, 1, 2, 8, 100])
    kind = generator.randrange(10)
    if kind < 5 and place < len(damaged):
        damaged[place] = generator.choice(
            [0, 255, damaged[place] ^ 1 << generator.randrange(8), generator.randrange(256)]
        )
    elif kind == 5:
        del damaged[place:]
    elif kind == 6:
        del damaged[place : place + length]
    elif kind == 7:
        damaged[place:place] = damaged[place : place + length]
    elif kind == 8:
        damaged[place:place] = generator.randbytes(length)
    else:
        damaged[place : place + 8] = generator.choice([b"\xff" * 8, b"\x7f" + b"\xff" * 7, bytes(7) + b"\x10"])
