"""The page on finding predictions, run from top to bottom on a real server."""

import re
from pathlib import Path

from bluesky_xpdml.publish import TiledPublisher, derived_run
from bluesky_xpdml.records import Estimate, Origin, Prediction, Quality, Sample

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "find-predictions.md"


def test_the_page_runs(tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="page")
    state = Estimate(value=2.0, low=1.9, high=2.1, unit="e")
    answer = Prediction(
        technique="xanes",
        element="Fe",
        edge="K",
        quality=Quality(),
        descriptors={"oxidation_state": state},
        sample=Sample(name="LFP-3"),
        origin=Origin(proposal="310000"),
        raw_uids=("raw",),
    )
    publisher.publish(derived_run(answer))
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    uri = tiled_server.uri.partition("/api")[0]
    code = code.replace("http://localhost:8000", uri).replace('"..."', repr(tiled_server.api_key))
    names = {}
    exec(code.replace('path="xpdml"', 'path="page"'), names)  # noqa: S102 - the page's own code
    publisher.close()
    assert [each.sample.name for each in names["reduced"]] == ["LFP-3"]
    assert names["every_answer"] == names["latest"]
    assert names["table"]["oxidation_state"].tolist() == [2.0]
    assert names["numbers"]["oxidation_state_high"].attrs == {"units": "e"}
    assert names["prediction"].raw_uids == ("raw",)
    assert names["new"] == []
