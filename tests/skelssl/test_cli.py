import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from tiny import RECIPE, make_store

from skelssl import quickstart
from skelssl.cli import main
from skelssl.engine.recipe import names
from skelssl.protocols.results import read_results

ROOT = Path(__file__).parents[2]
SHORT = [
    *("--training.epochs=2", "--training.warmup_epochs=1", "--training.batch_size=16", "--pstl.projector=16"),
    *("--pstl.frames=12", "--pstl.masked_frames=2", "--encoder.hidden_channels=4", "--encoder.feature_dim=16"),
    *("--evaluation.initialisations=1", "--evaluation.linear_epochs=5"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    make_store(folder / "store")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE.as_data()))
    return folder


class Page(HTMLParser):
    """Collects tags, links and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_from_store_to_report(work, capsys):
    store, run = str(work / "store"), str(work / "run")
    main(["verify", store])
    assert "fit for use" in capsys.readouterr().out
    main(["pretrain", str(work / "tiny.yaml"), "--data", store, "--out", run, "--training.epochs=2"])
    main(["evaluate", run])  # on the data that the run names
    assert re.search(r"test_unseen +18 +knn, k = 1 +trained", capsys.readouterr().out)
    main(["report", run])
    assert capsys.readouterr().out.split()[1::2] == [
        str(work / "run" / f"report.{kind}") for kind in ("html", "md", "csv")
    ]
    page = Page((work / "run" / "report.html").read_text())
    assert page.open == []
    assert all(link.startswith("#") for link in page.links), "the report needs no other file"
    assert page.tags.count("tr") == 1 + 20
    assert "tested on the 24 sequences of test" in page.text
    assert "Few labels: skelssl evaluate" in page.text


def test_evaluation_by_flags_and_fusion(work, capsys):
    run, out = str(work / "run"), work / "chosen"
    flags = ["--protocols", "knn", "--evaluation.neighbours=[2]", "--train", "view1", "--test", "view2"]
    main(["evaluate", run, *flags, "--out", str(out)])
    assert {(r.train, r.test, r.k) for r in read_results(out)} == {("view1", "view2", 2), ("view1", "view2", 0)}
    main(["fuse", run, "--out", str(out)])
    assert "linear, joint, last epoch" in capsys.readouterr().out
    for wrong, message in (("--training.epochs=3", "expected --evaluation.KEY=VALUE"), ("--target-splits=a", "two")):
        with pytest.raises(SystemExit):
            main(["evaluate", run, wrong])
        assert message in capsys.readouterr().err


def test_synth(tmp_path, capsys):
    sizes = ["--subjects", "1", "--repetitions", "1"]
    main(["synth", "--out", str(tmp_path / "store"), *sizes])
    assert "60 sequences" in capsys.readouterr().out
    main(["synth", "--out", str(tmp_path / "chain"), "--raw", str(tmp_path / "raw"), *sizes, "--preprocessing", "raw"])
    assert "xview_test 20, xview_train 40" in capsys.readouterr().out
    assert len(list((tmp_path / "raw").glob("*.skeleton"))) == 60


def test_resume_after_the_end_changes_nothing(work):
    run = work / "run"
    before = (run / "encoder.safetensors").read_bytes()
    flags = ["--data", str(work / "store"), "--out", str(run), "--training.epochs=2"]
    main(["pretrain", str(work / "tiny.yaml"), *flags, "--resume"])
    assert (run / "encoder.safetensors").read_bytes() == before


def test_choose_prints_a_table_best_first_and_never_touches_the_test_split(work, capsys):
    arguments = ["choose", str(work / "tiny.yaml"), "--data", str(work / "store"), "--out", str(work / "choose")]
    main([*arguments, "--training.epochs=2", "--grid", "training.learning_rate=0.001,0.01"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| training")]
    assert len(lines) == 2
    scores = [float(line.split("|")[2]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert len(list((work / "choose").iterdir())) == 4
    with pytest.raises(SystemExit):
        main([*arguments, "--evaluation.validation=[[view1, test]]"])
    assert "split 'test' holds test samples" in capsys.readouterr().err


def test_quickstart_from_nothing_and_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quickstart, "SUBJECTS", 3)
    monkeypatch.setattr(quickstart, "REPETITIONS", 2)
    main(["quickstart", "--out", str(tmp_path), *SHORT])
    first = capsys.readouterr().out
    assert "48 generated sequences of drink, sit down, stand up, pick up, wave, kick, jump, walk" in first
    assert (tmp_path / "report.html").is_file()
    weights = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    main(["quickstart", "--out", str(tmp_path), *SHORT])
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "nowhere"], "nowhere: expected a store, found no header.json"),
        (["pretrain", "pstl-imagenet", "--data", "x", "--out", "y"], "recipe: expected one of"),
        (["verify", "nowhere", "--colour"], "unknown arguments: --colour"),
        (["prepare", "nw-ucla", "nowhere", "--out", "z"], "nowhere: expected a folder or an archive, found nothing"),
        (["prepare", "ntu60", "nowhere", "--out", "z"], "nowhere: expected a folder or an archive, found nothing"),
        (["prepare", "ntu6", ".", "--out", "z"], "kind: expected one of ntu60, ntu120, "),
        (
            ["prepare", "ntu60", ".", "--out", "z", "--preprocessing", "x"],
            "preprocessing: expected one of agcn, raw, centred, yaw-aligned, ",
        ),
        (["report", "nowhere", "--data", "x"], "x: expected a store"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("skelssl: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("arguments", [["--debug", "verify", "nowhere"], ["verify", "nowhere", "--debug"]])
def test_debug_shows_the_traceback(arguments):
    with pytest.raises(ValueError, match="expected a store"):
        main(arguments)


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skelssl.data.verify.verify", interrupted)
    with pytest.raises(SystemExit) as exit:
        main(["verify", "nowhere"])
    assert exit.value.code == 130
    assert "pretrain --resume goes on" in capsys.readouterr().err


def run_python(script):
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)


def test_help_is_quick_and_runs_as_a_module():
    script = "import sys, skelssl.cli; print('lightning_fabric' in sys.modules or 'safetensors' in sys.modules)"
    assert run_python(script).stdout.split() == ["False"]
    found = subprocess.run([sys.executable, "-m", "skelssl", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0
    commands = (
        "prepare synth verify convert recipes pretrain evaluate fuse compare choose report embed export show quickstart"
    )
    for command in commands.split():
        assert command in found.stdout


def test_recipes_and_what_may_follow_their_names(capsys):
    main(["recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert "pstl-ntu60-xsub -motion -bone" in lines and "scc-ntu60-xsub-person -masked" in lines
    assert [line.split()[0] for line in lines] == list(names())


def test_missing_extras_are_named():
    hide = "u.find_spec = lambda n, *a: None if n == 'tqdm' else f(n, *a)"
    found = run_python(f"import importlib.util as u; f = u.find_spec; {hide}; import skelssl")
    assert "skelssl needs tqdm: pip install -e '.[ssl]'" in found.stderr
