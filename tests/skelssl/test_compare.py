from dataclasses import replace

import pytest
import yaml
from test_results import ROW

from skelssl.cli import main
from skelssl.engine.recipe import FOLDER
from skelssl.protocols.compare import SURE, compare, published, read_published
from skelssl.protocols.evaluate import PROTOCOLS
from skelssl.protocols.results import write_results

OWN = replace(
    ROW,
    dataset="ntu60",
    pretrained_on="ntu60 xsub_train",
    train="xsub_train",
    test="xsub_test",
    protocol="linear",
    setting="",
    level=None,
    epochs="last",
    value=78.0,
)


def test_published_numbers_are_of_known_sets_and_protocols():
    recipes = [yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")]
    tests = [(recipe["dataset"], recipe["evaluation"].get("test", "")) for recipe in recipes]
    known = {(dataset, split.removesuffix("_test")) for dataset, split in tests}
    for row in published():
        assert (row.dataset, row.split) in known, row
        assert row.protocol in PROTOCOLS
        assert (row.k > 0) == (row.protocol == "knn")
        assert row.source
        assert row.sure in SURE
        assert 20 < row.value < 100
    assert len(set(published())) == len(published())


def test_runs_stand_beside_each_other_and_published_numbers_best_first(tmp_path, capsys):
    worse = replace(OWN, encoder="untrained", value=40.0, gain=None)
    retrieval = replace(OWN, protocol="knn", k=1, epochs="", value=60.0)
    write_results(tmp_path / "one", [OWN, retrieval, replace(OWN, value=None, note="not possible")])
    write_results(tmp_path / "two", [worse])
    folders = [tmp_path / "one", tmp_path / "two"]
    linear, knn = compare(folders).split("\n\n**")
    lines = [line.split(" | ") for line in linear.splitlines()[4:]]
    assert {line[0] for line in lines} >= {"| pstl", "| pstl, untrained", "| PSTL", "| HiCo, LSTM", "| ISC"}
    values = [float(line[2].split(" ±")[0]) for line in lines]
    assert values == sorted(values, reverse=True)
    assert next(line for line in lines if line[:2] == ["| PSTL", "joint"])[5].startswith("published: tables of USDRL+")
    assert knn.startswith("ntu60 (raw), xsub_train to xsub_test: knn, k = 1, top-1**")
    assert "| HiCo | joint | 68.3 |" in knn
    assert "published" not in compare(folders, published=False)
    main(["compare", *map(str, folders), "--no-published"])
    assert "| pstl | joint | 78.0 ± 1.5 | 40.0 to 60.0 | 0 |" in capsys.readouterr().out


def test_other_conditions_are_other_tables(tmp_path):
    others = [
        replace(OWN, epochs="best"),
        replace(OWN, metric="top-5"),
        replace(OWN, preprocessing="agcn"),
        replace(OWN, dataset="nw-ucla", test="test"),
    ]
    write_results(tmp_path, [OWN, *others])
    tables = compare([tmp_path]).split("\n\n**")
    assert len(tables) == 5
    assert ["published" in table for table in tables] == [True, False, False, True, False]
    assert tables[-1].startswith("nw-ucla (raw), xsub_train to test, pre-trained on ntu60 xsub_train: linear")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour: 1", r"tables\[0\]: expected the keys .*, found 'colour'"),
        ("sure: hardly", r"sure: expected one of official, later, found 'hardly'"),
    ],
)
def test_published_files_are_checked(tmp_path, change, message):
    table = f"protocol: linear, stream: joint, source: x, values: {{}}, {change}"
    (tmp_path / "x.yaml").write_text(f"method: x\ntables: [{{{table}}}]\n")
    with pytest.raises(ValueError, match=message):
        list(read_published(tmp_path / "x.yaml"))
