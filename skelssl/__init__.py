"""Self-supervised skeleton action recognition: methods, data and evaluation protocols on skelkern's kernels."""

from importlib.util import find_spec

from skelkern import __version__ as __version__

_MISSING = [
    name
    for name in ("yaml", "safetensors", "lightning_fabric", "jsonargparse", "tqdm", "PIL")
    if find_spec(name) is None
]
if _MISSING:
    raise ImportError(f"skelssl needs {', '.join(_MISSING)}: pip install -e '.[ssl]'")
