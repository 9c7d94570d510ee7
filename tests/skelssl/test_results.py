import json
import re
from dataclasses import replace

import pytest

from skelssl.protocols.results import Result, ResultsError, described, read_results, table, write_results

ROW = Result(
    dataset="tiny",
    preprocessing="raw",
    pretrained_on="tiny train",
    method="pstl",
    stream="joint",
    train="train",
    test="test",
    test_samples=24,
    protocol="robustness",
    setting="joints zeroed",
    level=4.0,
    encoder="trained",
    seed=0,
    value=50.0,
    deviation=1.5,
    interval=(40.0, 60.0),
    gain=(1.0, 2.0),
    versions={"torch": "2.13.0"},
)


def test_what_is_written_is_read_again(tmp_path):
    rows = [ROW, replace(ROW, value=None, deviation=None, interval=None, gain=None, note="not possible", level=None)]
    assert read_results(write_results(tmp_path, rows)) == rows == read_results(tmp_path)
    lines = table(rows).splitlines()
    assert "robustness, joints zeroed 4" in lines[1]
    assert re.split("  +", lines[1])[-3:] == ["50.0 ± 1.5", "40.0 to 60.0", "+1.0 to +2.0"]
    assert lines[2].endswith("not possible")
    assert described(replace(ROW, protocol="knn", setting="", level=None, k=5)) == "knn, k = 5"


def damaged(key, value):
    def change(content):
        content["results"][0][key] = value

    return change


def without(key):
    return lambda content: content["results"][0].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=7), "schema: expected 1, found 7"),
        (lambda content: content.update(results={}), "results: expected a list, found dict"),
        (lambda content: content["results"].append(3), r"results\[1\]: expected keys and values, found int"),
        (without("seed"), r"results\[0\]: expected the key 'seed', found none"),
        (damaged("colour", 1), r"results\[0\]: expected the keys of schema 1, found 'colour'"),
        (damaged("value", "high"), r"results\[0\]: value: expected float | None, found 'high'"),
        (damaged("k", 1.5), r"results\[0\]: k: expected int, found 1.5"),
        (damaged("interval", [1.0]), r"results\[0\]: interval: expected .*, found \[1.0\]"),
    ],
)
def test_damaged_results_are_refused(tmp_path, change, message):
    content = json.loads(write_results(tmp_path, [ROW]).read_text())
    change(content)
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=message):
        read_results(tmp_path)


def test_no_results_and_no_json(tmp_path):
    with pytest.raises(ResultsError, match=r"results.json: expected results of `skelssl evaluate`, found no file"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ResultsError, match=r"results.json: cannot be read"):
        read_results(tmp_path)
