"""Predictions found again by what they say: a real server, many runs, and what a reader knows of them."""

import random
import time
from dataclasses import replace
from math import inf

import pytest

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.factory.bench.queries import fill
from bluesky_xpdml.publish import (
    LiveRun,
    PredictionCatalog,
    Query,
    derived_run,
    open_container,
)
from bluesky_xpdml.publish.requests import Requests
from bluesky_xpdml.records import Origin, Quality, Sample, Verdict
from bluesky_xpdml.vocabulary import Reason, ReasonCode


def states(found):
    return [each.descriptors["oxidation_state"].value for each in found]


def test_a_newer_bundle_supersedes_and_the_older_answer_stays(catalog, container, answer, put):
    put(container, answer("raw", 2.0, bundle=1), 10.0)
    put(container, answer("raw", 3.0, bundle=2), 20.0)
    assert states(catalog.find(Query(sample="LFP"))) == [3.0]
    assert states(catalog.of_run("raw")) == [3.0]
    assert states(catalog.history("raw")) == [3.0, 2.0]


def test_the_time_of_the_answer_counts_not_when_a_spool_brought_it(catalog, container, answer, put):
    put(container, answer("raw", 3.0, bundle=2), 20.0)
    put(container, answer("raw", 2.0, bundle=1), 10.0)
    assert states(catalog.of_run("raw")) == [3.0]
    assert states(catalog.find(Query(before=15.0))) == [2.0]
    assert catalog.find(Query(descriptors={"oxidation_state": (1.5, 2.5)})) == []


def test_an_old_answer_is_not_found_by_what_the_newer_one_no_longer_says(catalog, container, answer, put):
    put(container, answer("raw", 2.0, bundle=1), 10.0)
    put(container, answer("other", 2.1, bundle=1), 11.0)
    put(
        container,
        answer("raw", 3.0, bundle=2, quality=Quality().suspect(Reason("noise", ReasonCode.NOISE))),
        20.0,
    )
    reduced = Query(descriptors={"oxidation_state": (1.5, 2.5)})
    assert states(catalog.find(reduced)) == [2.1]
    assert states(catalog.find(reduced, superseded=True)) == [2.1, 2.0]
    assert states(catalog.find(Query(verdicts=(Verdict.GOOD,)))) == [2.1]


def test_a_failure_hides_no_answer(catalog, container, answer, put):
    failed = {"descriptors": {}, "quality": Quality().failed(Reason("no time", ReasonCode.QUEUE_FULL))}
    put(container, answer("raw", 2.0), 10.0)
    put(container, answer("raw", bundle=2, **failed), 20.0)
    put(container, answer("lost", bundle=2, **failed), 30.0)
    assert [each.failed for each in catalog.find(Query())] == [True, False]
    (only,) = catalog.find(Query(verdicts=(Verdict.FAILED,)))
    assert only.raw_uids == ("lost",)
    assert len(catalog.find(Query(verdicts=(Verdict.FAILED,)), superseded=True)) == 2


def test_a_raw_run_finds_joint_predictions_and_series_of_which_it_is_a_part(catalog, container, answer, put):
    put(container, answer(("first", "second"), 2.0), 10.0)
    put(container, answer("first", 3.0), 20.0)
    assert states(catalog.of_run("second")) == [2.0]
    assert states(catalog.of_run("first")) == [3.0, 2.0]
    assert catalog.of_run("sec_nd") == catalog.of_run("secon") == catalog.of_run("%") == []


def test_predictions_of_files_each_stand_for_themselves(catalog, container, answer, put):
    put(container, answer((), 2.0, source="a.xdi"), 10.0)
    put(container, answer((), 3.0, source="b.xdi"), 20.0)
    assert states(catalog.find(Query(element="Fe"))) == [3.0, 2.0]


def test_partial_predictions_are_no_results(catalog, container, answer, put):
    for name, document in (live := LiveRun()).update(answer("raw")):
        if name == "start":
            container.create_container(key=live.uid, metadata={"start": document})
    assert catalog.find(Query()) == []
    assert catalog.since(catalog.end())[0] == []


def test_queries_over_many_runs_agree_with_the_rule_applied_to_all(catalog, tiled_server, answer):
    starts = []
    chance = random.Random(7)  # noqa: S311 - reproducible, not secret
    everything = []
    for at in range(300):
        verdict = chance.choice(
            [
                Quality(),
                Quality().suspect(Reason("noise", ReasonCode.NOISE)),
                Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED)),
            ]
        )
        prediction = answer(
            f"raw-{chance.randrange(120)}",
            chance.uniform(0.0, 6.0),
            bundle=at,
            quality=verdict,
            element=(element := chance.choice(["Fe", "Ni"])),
            sample=Sample(name=f"sample-{chance.randrange(5)}"),
            origin=Origin(proposal=chance.choice(["1", "2"]), trial={"campaign": f"c-{at % 3}", "id": at}),
        )
        if verdict.verdict is Verdict.FAILED:
            prediction = replace(prediction, descriptors={})
        starts.append(derived_run(prediction, clock=lambda at=at: 1000.0 + at)[0][1])
        state = None if verdict.verdict is Verdict.FAILED else prediction.descriptors["oxidation_state"].value
        everything.append((1000.0 + at, (prediction.raw_uids, element), state, verdict.verdict, prediction))

    fill(tiled_server.directory, "/".join(catalog.container.path_parts), starts)

    def expected(keep):
        counting = {}
        for row in sorted(everything, key=lambda row: (row[3] is not Verdict.FAILED, row[0])):
            counting[row[1]] = row
        return sorted((row[0] for row in counting.values() if keep(*row)), reverse=True)

    cases = [
        (Query(element="Ni"), lambda _at, question, *_: question[1] == "Ni"),
        (Query(descriptors={"oxidation_state": (2, 3)}), lambda _a, _q, state, *_: state and 2 <= state <= 3),
        (Query(descriptors={"oxidation_state": (2, 2.1)}), lambda _a, _q, x, *_: x and 2 <= x <= 2.1),
        (Query(descriptors={"oxidation_state": (0, inf)}), lambda _a, _q, state, *_: state is not None),
        (Query(verdicts=(Verdict.GOOD,)), lambda _a, _q, _s, verdict, _p: verdict is Verdict.GOOD),
        (
            Query(verdicts=(Verdict.SUSPECT, Verdict.FAILED)),
            lambda _a, _q, _s, verdict, _p: verdict is not Verdict.GOOD,
        ),
        (Query(after=1200.0), lambda at, *_: at >= 1200.0),
    ]
    # Asked again, a catalog knows which queries find little, and asks another way.
    for query, keep in cases * 2:
        assert [each.time for each in catalog.find(query, limit=1000)] == expected(keep), query
    asked = Query(sample="sample-2", proposal="1", campaign="c-1")
    wanted = [
        at
        for at, _q, _s, _v, each in reversed(everything)
        if (each.sample.name, each.origin.proposal, each.origin.trial["campaign"]) == ("sample-2", "1", "c-1")
    ]
    assert [each.time for each in catalog.find(asked, superseded=True)] == wanted
    newest = catalog.find(Query(), limit=7)
    assert [each.time for each in newest] == expected(lambda *_: True)[:7]


def test_wait_returns_a_failure_and_gives_up_in_time(catalog, container, answer, put):
    assert catalog.wait(Query(raw_uid="raw"), timeout=0.2) is None
    put(
        container,
        answer(
            "raw", descriptors={}, quality=Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED))
        ),
        time.time(),
    )
    found = catalog.wait(Query(raw_uid="raw"), timeout=5.0)
    assert found is not None
    assert found.failed


def test_a_server_that_is_away_is_named(tiled_server):
    from bluesky_xpdml.publish import connect

    client = connect(tiled_server.uri)
    catalog = PredictionCatalog(open_container(client, "catalog/away"))
    client["catalog"].delete_contents(["away"])
    client.context.http_client.close()
    with pytest.raises(PublishError, match=r"catalog/away.*check the address"):
        catalog.find(Query())


@pytest.mark.parametrize("version", ["0.2.9", "facility-build"])
def test_an_old_server_that_links_to_no_further_page_is_read_to_the_end(
    container, insert, answer, monkeypatch, version
):
    rows = {
        f"entry-{at}": {"start": derived_run(answer(f"raw-{at}"), clock=lambda at=at: at)[0][1]}
        for at in range(7)
    }
    insert(container, rows)
    monkeypatch.setattr(container.context.server_info, "library_version", version)
    requests = Requests(container)
    get = requests._get
    monkeypatch.setattr(requests, "_get", lambda *request: get(*request) | {"links": {}})
    for newest_first in (False, True):
        pages = list(requests.pages(size=3, newest_first=newest_first))
        assert [len(page) for page in pages] == [3, 3, 1]
        assert {run.key for page in pages for run in page} == set(rows)
    assert {start["raw_uid"] for start in requests.starts(())} == {f"raw-{at}" for at in range(7)}
