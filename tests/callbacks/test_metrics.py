"""Metrics of a callback and of a watcher, scraped as Prometheus does, beside a real Tiled server."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

from bluesky_xpdml import XpdmlCallback
from bluesky_xpdml.callbacks.metrics import METRICS, OTHER, serving_metrics
from bluesky_xpdml.errors import MissingExtraError, SettingsError
from bluesky_xpdml.publish.status import GapCounts, LastAnswer, OutboxStatus, Status
from bluesky_xpdml.sources.wire import encode

PROGRAM = Path(sys.executable).with_name("xpdml")
PATIENCE = 240.0


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def until(check):
    """Return what a check returns as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
    return found


def scraped(port):
    """Return the samples of all metrics: value by name and labels."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE)
    assert answer.is_success
    families = list(text_string_to_metric_families(answer.text))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }, {family.name: family.type for family in families}


def test_metrics_of_a_callback_are_its_status(tiled_server, iron_scan):
    good, cut = iron_scan(), iron_scan()
    with XpdmlCallback.from_uri(tiled_server.uri, path="measured/metrics") as callback:
        for document in (*good, cut[0], ("stop", {"uid": "s", "run_start": cut[0][1]["uid"], "time": 1.0})):
            callback(*document)
        callback("start", {"uid": "goes on", "time": 0.0, "plan_name": "count"})
        assert callback.drain(PATIENCE)
        until(lambda: callback.status.runs == 2 and not callback.status.outbox.entries)
        with serving_metrics(lambda: callback.status, 0) as port:
            samples, kinds = scraped(port)
            status = callback.status
            assert samples["xpdml_documents_total",] == status.documents == len(good) + 3
            for outcome in ("predicted", "failed", "ignored", "unpublished"):
                assert samples["xpdml_runs_total", outcome] == getattr(status, outcome)
            assert (status.predicted, status.failed) == (1, 1)
            codes = {key[1]: value for key, value in samples.items() if key[0] == "xpdml_failures_total"}
            assert codes == status.failures != {}
            assert samples["xpdml_open_runs",] == status.open_runs == 1
            assert samples["xpdml_backlog_runs",] == status.backlog == 0
            assert samples["xpdml_lag_seconds",] == status.lag == 0.0
            assert samples["xpdml_outbox_entries",] == status.outbox.entries == 0
            assert samples["xpdml_outbox_bytes",] == status.outbox.bytes
            assert samples["xpdml_server_away",] == 0.0
            assert samples["xpdml_last_answer_timestamp_seconds",] == status.last_answer.time
            assert samples["xpdml_info", status.version] == 1.0
            assert samples["xpdml_memory_bytes", "watcher"] > 0
            assert samples["xpdml_memory_bytes", "analysis"] > 0
            assert (kinds["xpdml_documents"], kinds["xpdml_lag_seconds"]) == ("counter", "gauge")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE)


def test_every_metric_has_what_the_status_holds_and_no_names_of_runs():
    status = Status(
        version="1.2",
        started=5.0,
        backlog=3,
        lag=7.5,
        open_runs=2,
        last_answer=LastAnswer(time=9.0, raw_uid="uid-of-a-run", sample="secret sample"),
        outbox=OutboxStatus(entries=4, bytes=8192, server_is_away=True, last_error="no answer"),
        failures={"time-limit": 2, "secret sample": 1, "of a later version": 3},
        gaps=GapCounts(events=10, unstopped=2, unstarted=1, refused=6),
        memory=100,
        memory_of_analysis=200,
    )
    with serving_metrics(lambda: status, 0) as port:
        samples, _ = scraped(port)
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).text
    assert samples["xpdml_failures_total", "time-limit"] == 2
    assert samples["xpdml_failures_total", OTHER] == 4
    assert [samples["xpdml_gaps_total", kind] for kind in ("event", "start", "refused")] == [10, 1, 6]
    assert samples["xpdml_server_away",] == 1.0
    assert [samples["xpdml_memory_bytes", name] for name in ("watcher", "analysis")] == [100, 200]
    assert {name for name, *_ in samples} == {metric.name for metric in METRICS}
    assert "secret" not in text
    assert "uid-of-a-run" not in text


def test_what_is_not_known_is_absent():
    with serving_metrics(Status, 0) as port:
        samples, _ = scraped(port)
    absent = {metric.name for metric in METRICS} - {name for name, *_ in samples}
    assert absent == {
        "xpdml_backlog_runs",
        "xpdml_failures_total",
        "xpdml_lag_seconds",
        "xpdml_last_answer_timestamp_seconds",
        "xpdml_memory_bytes",
    }


def test_two_callbacks_of_a_process_have_metrics_of_their_own():
    one = Status(documents=1)
    with (
        serving_metrics(lambda: one, 0) as first,
        serving_metrics(lambda: replace(one, documents=2), 0) as second,
    ):
        assert [scraped(port)[0]["xpdml_documents_total",] for port in (first, second)] == [1, 2]


def test_a_status_that_cannot_be_read_costs_one_scrape_only():
    answers = [None, OSError("no file"), Status()]

    def status():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with serving_metrics(status, 0) as port:
        assert [len(scraped(port)[0]) > 0 for _ in range(3)] == [False, False, True]


def test_a_port_in_use_is_an_error_before_a_watcher_starts(xpdml):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}, found: Address already in use"):
            serving_metrics(Status, port).__enter__()
        outcome = xpdml(
            "watch", "--zmq", "localhost:1", "--tiled", "http://127.0.0.1:9", "--metrics", str(port)
        )
    assert outcome.status == 1
    assert "Address already in use" in outcome.err
    assert "listening" not in outcome.err


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bluesky-xpdml\[metrics\]'"):
        serving_metrics(Status, 0).__enter__()


def agreeing(records, port):
    """Return the record of the watcher and its metrics, if both are of the same last answer."""
    samples, _ = scraped(port)
    answered = samples["xpdml_last_answer_timestamp_seconds",]
    last = [each for each in records if (each["last_answer"] or {}).get("time") == answered]
    return (last[0], samples) if last else None


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_a_watcher_serves_the_status_that_it_writes(xpdml, tiled_server, iron_scan):
    port = free_port()
    server = ("--tiled", tiled_server.uri)
    shown = (*server, "--path", "measured/watched")
    with zmq.Context() as context, context.socket(zmq.XPUB) as proxy:
        address = f"localhost:{proxy.bind_to_random_port('tcp://127.0.0.1')}"
        command = [PROGRAM, "watch", "--zmq", address, *server, "--into", "measured/watched"]
        process = subprocess.Popen(
            [*command, "--metrics", str(port)],
            env=os.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        errors = []
        reading = threading.Thread(target=lambda: errors.extend(process.stderr))
        reading.start()
        try:
            assert proxy.poll(PATIENCE * 1e3), errors
            for name, document in iron_scan():
                proxy.send(b" %s %s" % (name.encode(), encode(document)))
            until(lambda: scraped(port)[0].get(("xpdml_runs_total", "predicted")) == 1.0)
            # The record is written every 10 s, and may be of the moment before.
            found, samples = until(lambda: agreeing(xpdml("status", *shown, "--json").objects, port))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, errors
        finally:
            process.kill()
            process.wait()
            reading.join()
            process.stderr.close()
    assert samples["xpdml_documents_total",] == found["documents"]
    assert samples["xpdml_start_timestamp_seconds",] == found["started"]
    assert found["failures"] == {}
