import os
from pathlib import Path

import pytest
from tiny import make_store


@pytest.fixture(scope="session")
def nw_ucla_archive():
    """The published NW-UCLA files; tests that need them skip where they are absent."""
    root = Path(os.environ.get("SKELSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    archive = root / "nw_ucla" / "nw_ucla_json.tar.xz"
    if not archive.is_file():
        pytest.skip(f"needs the published NW-UCLA files at {archive} (set SKELSSL_DATA to the folder of nw_ucla/)")
    return archive


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The small store that recipes of `tiny` train on; tests that change a store make their own."""
    return make_store(tmp_path_factory.mktemp("data") / "store")
