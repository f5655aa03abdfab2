"""How errors leave the command line: one line, the right exit status, and the other files still answered."""

import pytest

from bluesky_xpdml.cli import find, predict
from bluesky_xpdml.sources.reading import FileReading
from bluesky_xpdml.vocabulary import ReasonCode

IRON = ("--element", "Fe", "--edge", "K")


class UnforeseenError(Exception):
    """An error that nothing catches by its type."""


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Return a file with which reading fails in a way that nobody foresaw."""
    load, scan = FileReading.load, FileReading.scan

    def fail(path):
        if path.name == "broken.dat":
            raise UnforeseenError("wires crossed")

    def broken_load(self, path, kind):
        fail(path)
        return load(self, path, kind)

    def broken_scan(self, path):
        fail(path)
        return scan(self, path)

    monkeypatch.setattr(FileReading, "load", broken_load)
    monkeypatch.setattr(FileReading, "scan", broken_scan)
    return tmp_path / "broken.dat"


def test_an_unforeseen_error_is_one_line_and_status_1(xpdml, monkeypatch):
    def fail(*_arguments, **_options):
        raise UnforeseenError("wires crossed")

    monkeypatch.setattr(find.PredictionCatalog, "from_uri", fail)
    done = xpdml("find", "--tiled", "http://localhost:1")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "xpdml: internal error, UnforeseenError: wires crossed; run again with --debug and report what it "
        "prints\n"
    )
    assert "Traceback" in xpdml("find", "--tiled", "http://localhost:1", "--debug").err


def test_an_unforeseen_error_is_one_line_in_a_process_too(xpdml_process, tmp_path, iron_file):
    (tmp_path / "sitecustomize.py").touch()
    done = xpdml_process("predict", iron_file, *IRON, "--plot", "picture.unknown")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("xpdml: ")


@pytest.mark.parametrize("command", ["predict", "reduce", "explain", "repeats", "replay"])
def test_a_good_file_is_answered_whatever_the_first_one_does(xpdml, broken, iron_file, command, explainable):
    more = ("--models", explainable) if command == "explain" else ()
    done = xpdml(command, broken, iron_file, *IRON, *more, "--json")
    assert done.status == 1
    *before, good = done.objects
    assert good["quality"]["verdict"] == "good"
    said = " ".join([done.err, *(reason for each in before for reason in each["quality"]["reasons"])])
    assert "internal error: UnforeseenError: wires crossed" in said
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["predict", "reduce", "explain"])
def test_an_internal_error_of_a_file_is_a_failed_answer_with_its_code(xpdml, broken, command):
    done = xpdml(command, broken, *IRON, "--json")
    assert done.status == 1
    (answer,) = done.objects
    assert answer["quality"]["verdict"] == "failed"
    assert answer["quality"]["codes"] == [ReasonCode.INTERNAL_ERROR]


def test_an_internal_error_of_a_repeat_is_noted_with_its_code(xpdml, broken, iron_file):
    (answer,) = xpdml("repeats", broken, iron_file, *IRON, "--json").objects
    assert ReasonCode.INTERNAL_ERROR in answer["quality"]["codes"]
    last = xpdml("repeats", iron_file, broken, *IRON, "--json")
    assert last.status == 1
    assert len(last.objects) == 1
    assert "broken.dat: internal error" in last.err


def test_an_internal_error_while_answering_both_is_a_failed_joint_answer(xpdml, iron_file, monkeypatch):
    def fail(*_arguments, **_options):
        raise UnforeseenError("wires crossed")

    monkeypatch.setattr("bluesky_xpdml.analysis.request.predict_sample", fail)
    done = xpdml("predict", iron_file, "--pdf", iron_file.with_suffix(".gr"), *IRON, "--json")
    both, by_spectrum, _ = done.objects
    assert both["quality"]["codes"][0] == ReasonCode.INTERNAL_ERROR
    assert by_spectrum["quality"]["verdict"] == "good"


def test_stopping_by_hand_is_status_130(xpdml, iron_file, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict.FileAnalysis, "predict_each", stop)
    done = xpdml("predict", iron_file)
    assert (done.status, done.out, done.err) == (130, "", "xpdml: stopped\n")
