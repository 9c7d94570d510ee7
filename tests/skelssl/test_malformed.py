import os

import pytest
from malformed import NTU, what_a_user_sees, whole
from malformed_cases import CASES

from skelssl.cli import main


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.damage}" for case in CASES])
def test_a_user_sees_what_is_wrong(case, tmp_path):
    found = what_a_user_sees(case, tmp_path)
    assert case.seen in found
    assert "Traceback" not in found


def test_kinds_of_damage_differ():
    assert len({(case.kind, case.damage) for case in CASES}) == len(CASES) >= 40


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path, capsys):
    source = whole("ntu60", tmp_path)
    (source / NTU).chmod(0)
    with pytest.raises(SystemExit):
        main(["prepare", "ntu60", str(source), "--out", str(tmp_path / "store")])
    assert "Permission denied" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]
