"""Skeletons as data: joints, bones, centre, mirror pairs, parts and roles, from YAML files."""

from pathlib import Path

from skelssl.skeletons.layout import Skeleton as Skeleton
from skelssl.skeletons.layout import parse_layout

FOLDER = Path(__file__).parent
LANDMARKS = "landmarks.yaml"  # what joints' names mean, see `skelssl.skeletons.convert`


def names() -> tuple[str, ...]:
    """Skeletons that come with the library."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml") if path.name != LANDMARKS))


def get(name: str | Path) -> Skeleton:
    """A skeleton of the library by name, or a user's own from a YAML file.

    Raises:
        ValueError: no such skeleton, or the file does not describe one.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"skeleton: expected one of {', '.join(names())} or a YAML file, found {str(name)!r}")
    try:
        return parse_layout(path.stem, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, found a byte that is not at {error.start}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
