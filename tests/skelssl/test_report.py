import csv
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny import RECIPE, make_store, write_run

from skelssl.cli import main
from skelssl.data.store import HEADER, StoreError, open_store
from skelssl.engine.recipe import RobustnessOptions
from skelssl.protocols.context import EvaluationError
from skelssl.protocols.evaluate import evaluate
from skelssl.protocols.results import read_results
from skelssl.report.animation import animated_clip
from skelssl.report.charts import Line, line_chart, matrix, round_ticks
from skelssl.report.clip import augmented, sample_clip
from skelssl.report.page import write_report

NAMES = ['<script>alert("a")</script>', "b|*b*", "c & 'c' </svg>"]
OPTIONS = replace(
    RECIPE.evaluation,
    linear_epochs=3,
    fractions=(0.5,),
    subsets=2,
    robustness=RobustnessOptions(joints=(2, 4), frames=(0.5,), noise=(0.1,), turns=(30.0,), draws=2),
)
LOG = "epoch,loss,matm,csm,learning_rate,feature_std,seconds,knn_probe\n0,9,4,5,0.1,0.5,1,\n1,7,3,4,0.1,0.6,1,0.25\n"
SECTIONS = [
    *("summary", "results", "training", "few-labels", "robustness", "classes", "confusion", "features"),
    *("neighbours", "augmentations", "data", "settings"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A store whose class names are no HTML, and a run on it with results of all kinds that a report shows."""
    folder = tmp_path_factory.mktemp("report")
    make_store(folder / "store")
    header = json.loads((folder / "store" / HEADER).read_text())
    header["class_names"] = NAMES
    (folder / "store" / HEADER).write_text(json.dumps(header))
    store, recipe = open_store(folder / "store"), replace(RECIPE, evaluation=OPTIONS)
    run = write_run(folder / "run", recipe, store)
    (run / "log.csv").write_text(LOG)
    evaluate(run, store, protocols=["linear", "knn", "semi", "robustness"])
    return folder


@pytest.fixture(scope="module")
def files(work):
    return write_report([work / "run"], work / "out" / "all.html")


@pytest.fixture
def run(work, tmp_path):
    """A copy to damage."""
    return shutil.copytree(work / "run", tmp_path / "run")


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, name):
        return [value for attribute, value in self.attributes if attribute == name]


def test_the_page_needs_nothing_else_and_shows_names_as_they_are(files):
    text = files[0].read_text()
    page = Page(text)
    assert len(text) < 3_000_000
    assert page.values("src") == [] and not re.search(r"https?:|url\(|@import|javascript:", text)
    assert {link[1:] for link in page.values("href")} == set(SECTIONS) <= set(page.values("id"))
    assert page.tags.count("script") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name in NAMES:
        assert page.text.count(name) > 5
    assert "Not in this report" not in page.text


def test_every_number_says_what_it_depends_on(work, files):
    rows = read_results(work / "run")
    page = Page(files[0].read_text())
    assert page.tags.count("tr") == len(rows) + 2
    told = "tiny (raw), trained on train, tested on the 24 sequences of test; pre-trained on tiny train, seed 0"
    assert page.text.count(told) == 5  # main numbers, few labels, damages, classes, confusion
    assert (
        page.text.count("500 of") == 0 and "24 sequences of test; pre-trained on train; last epoch, seed 0" in page.text
    )
    best = next(row for row in rows if row.epochs == "last" and row.encoder == "trained" and row.metric == "top-1")
    assert f"{best.value:.1f} %" in page.text and f"untrained encoder {rows[0].value:.1f} %" in page.text


def test_charts_of_damages_have_the_same_axis(files):
    text = files[0].read_text()
    charts = re.findall(r"<figure><svg.*?</svg>", text[text.index('id="robustness"') : text.index('id="classes"')])
    assert len(charts) == 4  # joints, frames, noise, turns
    axes = {tuple(re.findall(r'class="end">([^<]+)<', chart)) for chart in charts}
    assert len(axes) == 1


def test_csv_holds_every_field_of_every_result(work, files):
    rows = read_results(work / "run")
    with files[2].open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [float(row["value"]) if row["value"] else None for row in found] == [row.value for row in rows]
    for line, row in zip(found, rows, strict=True):
        own = (row.train, row.test, row.protocol, row.setting, row.epochs, str(row.seed), row.note)
        assert own == tuple(line[key] for key in ("train", "test", "protocol", "setting", "epochs", "seed", "note"))
        assert json.loads(line["versions"]) == row.versions
        assert line["gain_low"] == ("" if row.gain is None else str(row.gain[0]))


def test_markdown_tables_have_equal_rows(work, files):
    text = files[1].read_text()
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert len(tables) == 3  # results, classes, confusions
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert len(tables[0].splitlines()) == 2 + len(read_results(work / "run"))
    assert r"b\|\*b\*" in text and r"\<script\>" in text


def test_confusion_and_classes_are_those_of_evaluation(work, files):
    with (work / "run" / "confusion.csv").open(newline="") as file:
        counts = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=int)
    shown = re.search(r'<div class="matrix".*?</div>', files[0].read_text(), re.DOTALL)[0]
    cells = re.findall(r'class="middle (?:on|off)">(\d+)<', shown)
    assert [int(cell) for cell in cells] == counts[counts > 0].tolist()
    with (work / "run" / "classes.csv").open(newline="") as file:
        for name, samples, untrained, trained in list(csv.reader(file))[1:]:
            line = f"{samples} | {float(untrained):.1f} | {float(trained):.1f} |"
            assert re.search(rf"^\| .* \| {re.escape(line)}$", files[1].read_text(), re.MULTILINE), name


def test_what_is_missing_is_told_with_the_command_for_it(run, work):
    (run / "results.json").unlink()
    page = Page(write_report([run])[0].read_text())
    assert {link[1:] for link in page.values("href")} == {"training", "augmentations", "data", "settings"}
    for command in (f"skelssl evaluate {run} --protocols linear,knn", f"skelssl evaluate {run} --protocols semi"):
        assert command in page.text
    (run / "log.csv").unlink()
    (run / "run.json").write_text(json.dumps({"data_path": "gone"}))
    main(["report", str(run), "--results", str(work / "run" / "results.json")])
    page = Page((run / "report.html").read_text())
    assert {link[1:] for link in page.values("href")} == {
        *("summary", "results", "few-labels", "robustness", "classes", "confusion", "settings")
    }
    assert "class 3" in page.text and f"skelssl report {run} --data STORE" in page.text
    assert "motion" not in page.values("class") and page.tags.count("script") == 0


def test_several_runs_beside_each_other(run, work, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (tmp_path / "results").mkdir()
    for each in (run, other):
        shutil.copytree(work / "run", tmp_path / "results" / each.name)
    paths = write_report([run, other], tmp_path / "two.html", results=tmp_path / "results", data=work / "store")
    page = Page(paths[0].read_text())
    assert page.values("class").count("matrix") == 2
    assert page.tags.count("tr") == 2 + 2 * len(read_results(work / "run"))
    for each in (run, other):
        (each / "encoder.safetensors").unlink()  # no features this time
    rows = [json.loads((run / "results.json").read_text())["results"][0] | {"run": str(path)} for path in (run, other)]
    (tmp_path / "shared.json").write_text(json.dumps({"schema": 1, "results": rows}))
    paths = write_report([run, other], tmp_path / "two.html", results=tmp_path / "shared.json")
    assert Page(paths[0].read_text()).tags.count("tr") == 1 + 2
    with pytest.raises(ValueError, match=r"out: expected an .html file for the report of several runs, found none"):
        write_report([run, other])


def broken_scores(arrays):
    arrays["trained linear scores"] = arrays["trained linear scores"][:, :2]


def broken_labels(arrays):
    arrays["labels"][0] = 3


def broken_values(arrays):
    del arrays["trained linear 0 last"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_scores, r"expected scores of 24 samples and 3 classes, found \(24, 2\)"),
        (broken_labels, "expected labels of 3 classes and finite scores, found others"),
        (broken_values, r"trained linear: expected \(24,\) values, found none"),
    ],
)
def test_damaged_predictions_are_refused_and_the_last_report_stays(damage, message, run):
    (run / "report.html").write_text("the last one")
    with np.load(run / "predictions.npz") as file:
        arrays = dict(file)
    damage(arrays)
    np.savez(run / "predictions.npz", **arrays)
    with pytest.raises(EvaluationError, match=message):
        write_report([run])
    assert (run / "report.html").read_text() == "the last one"
    assert not list(run.glob("*.partial"))


def test_damaged_files_are_named(run, work, tmp_path):
    with pytest.raises(ValueError, match=r"out: expected a file that ends in .html, found 'report.pdf'"):
        write_report([run], tmp_path.__class__("report.pdf"))
    with pytest.raises(StoreError, match="nowhere: expected a store"):
        write_report([run], data=tmp_path / "nowhere")
    for name, text, message in (
        ("predictions.npz", "no zip", "predictions.npz: cannot be read"),
        ("log.csv", "epoch,loss\n0,high\n", "expected a run, found a damaged file: could not convert"),
        ("log.csv", "step,loss\n0,1\n", "expected a record and a log of epochs and losses, found others"),
        ("config.yaml", "dataset: tiny\n", "expected the key 'method', found none"),
        ("run.json", "{", "expected a run, found a damaged file"),
    ):
        (run / name).write_text(text)
        with pytest.raises(EvaluationError, match=message):
            write_report([run])
        shutil.copy(work / "run" / name, run / name)


def test_masked_joints_are_thin_and_persons_have_colours_of_their_own(work):
    clip = sample_clip(open_store(work / "store"), 0)
    whole = animated_clip(clip)
    masked = animated_clip(augmented(clip, "masked-joints", 0))
    assert "lost" not in whole and 'class="person0 lost"' in masked
    both = replace(
        clip, **{name: np.concatenate([getattr(clip, name)] * 2, axis=1) for name in ("points", "seen", "known")}
    )
    assert "person1" not in whole and 'class="person1 left"' in animated_clip(both)
    [(width, height)] = re.findall(r'viewBox="0 0 (\d+) (\d+)"', whole)
    for picture in re.findall(r'values="(M[^"]*)"', whole):
        for path in picture.split(";"):
            starts = np.array(re.findall(r"M([-\d.]+) ([-\d.]+)", path), dtype=float)
            assert (starts > 0).all() and (starts < (float(width), float(height))).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.1, 0.7), (15, 90), (-3, 2), (5, 5), (0, 0), (1e-9, 3e-9)])
def test_ticks_are_round_and_reach_around(low, high):
    ticks = round_ticks(low, high, 4)
    assert ticks[0] <= low * (1 + 1e-9) and ticks[-1] >= high * (1 - 1e-9)
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_lines_leave_out_what_is_not_there():
    lines = [Line("<b>", [1, 2, 4], [1.0, float("nan"), 3.0], bars=[(0.5, 1.5), (0, 0), (3.0, 3.0)])]
    chart = line_chart("y", "x", lines, ticks=[1, 2, 4], logarithmic=True)
    assert "nan" not in chart and "<b>" not in chart
    [path] = re.findall(r'class="line c0" d="M([^"]*)"', chart)
    (x0, y0), (x1, y1) = np.array([point.split(" ") for point in path.split("L")], dtype=float)
    assert x0 < x1 and y0 > y1
    assert len(re.findall(r'class="spread c0" d="M[^M"]*V[^M"]*"', chart)) == 1
    [middle] = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="middle">2<', chart)
    assert float(middle) == pytest.approx((x0 + x1) / 2, abs=0.1)  # by logarithms 2 lies half-way between 1 and 4


def test_matrices_of_many_classes_go_without_names():
    shown = matrix([f"class {number}" for number in range(60)], np.eye(60, dtype=int))
    assert shown.count('class="cell"') == 60 and "class 5" not in shown
