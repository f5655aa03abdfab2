"""What a planner at a queue reads from Tiled, and what it tells its optimizer of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import nan
from typing import Any

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.planning.answers import Wanted, of_trial, that_counts
from bluesky_xpdml.planning.queue.client import AwayError
from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query

TIMEOUT = 3.0
"""How long the server may take to say that it is there [s]; its client would try for more than a minute."""
AT_MOST = 100_000
"""Predictions of one campaign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which predictions answer the trials of a campaign."""

    campaign: str
    """Its name; one name is one campaign, also after a restart."""
    descriptor: str
    """That an answer has to have."""
    technique: str
    """`xanes`, `pdf`, `dpdf`, or of both: `xanes+pdf`, `xanes+dpdf`."""
    element: str = ""
    """Where a plan measures several; empty for any."""

    def read(self, catalog: PredictionCatalog) -> list[PublishedPrediction]:
        """Return the predictions of the campaign, newest first.

        Parameters
        ----------
        catalog
            Where they are.

        Raises
        ------
        AwayError
            If the server does not answer.
        """
        import httpx
        from tiled.client.utils import ClientError

        try:
            _require_health(catalog)
            return catalog.find(Query(campaign=self.campaign), limit=AT_MOST)
        except (httpx.HTTPError, ClientError, OSError, PublishError) as error:
            raise AwayError(
                f"expected predictions at {catalog.container.uri}, found {type(error).__name__}: {error}; "
                "check that the Tiled server runs"
            ) from error

    def answers(self, found: Sequence[PublishedPrediction]) -> dict[str, PublishedPrediction]:
        """Return the prediction that counts for each trial, by its id, also one that failed.

        Parameters
        ----------
        found
            Predictions of the campaign.
        """
        wanted = Wanted(technique=self.technique, timeout=0.0, element=self.element, campaign=self.campaign)
        joint = [each for each in found if "+" in each.technique]
        named: dict[str, list[PublishedPrediction]] = {}
        for each in found:
            named.setdefault(str(each.origin.trial.get("id", "")), []).append(each)
        named.pop("", None)
        counting = {
            trial: that_counts(of_trial([*mine, *joint], wanted, trial), wanted)
            for trial, mine in named.items()
        }
        return {trial: answer for trial, answer in counting.items() if answer is not None}

    def outcome(
        self, trial: str, parameters: Mapping[str, Any], answer: PublishedPrediction
    ) -> dict[str, Any]:
        """Return what an optimizer is told of an answer.

        Parameters
        ----------
        trial
            Its id.
        parameters
            What the trial asked for.
        answer
            Has the descriptor.
        """
        found = answer.descriptors[self.descriptor]
        return {
            **parameters,
            ID: trial,
            self.descriptor: found.value,
            f"{self.descriptor}_low": found.low,
            f"{self.descriptor}_high": found.high,
            NOVELTY: answer.diagnostics.get("novelty_score", nan),
            QUALITY: answer.quality.verdict,
        }


def _require_health(catalog: PredictionCatalog) -> None:
    """Ask quickly whether the server is there."""
    client: Any = catalog.container.context.http_client
    response = client.send(client.build_request("GET", catalog.container.uri, timeout=TIMEOUT))
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        response.raise_for_status()
