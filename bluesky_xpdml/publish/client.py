"""What Tiled's client returns for a derived run: a Bluesky run that also knows its prediction.

The entry point `tiled.special_client` names the class for runs with the spec `XpdmlPrediction`. Without this
package such runs are opened as Bluesky runs.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.publish.curves import CURVES, read_distribution, read_xanes
from bluesky_xpdml.publish.published import PublishedPrediction, as_mapping, published
from bluesky_xpdml.records import PairDistribution, Prediction, Xanes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PredictionRun(BlueskyRunV3):  # type: ignore[misc]
    """A derived run; everything that a `BlueskyRun` has works as there.

    `docs/reference/derived-run.md` has an example, which needs a server.
    """

    @cached_property
    def prediction(self) -> PublishedPrediction:
        """The start document as a record.

        Raises
        ------
        PublishError
            If another version wrote it in a form that this one does not understand.
        """
        return published(dict(self.metadata["start"]))

    def curves(self) -> dict[str, Xanes | PairDistribution]:
        """Return the measured curves by stream, `xanes` or `pdf`, as the records they were written from.

        Returns
        -------
        dict
            Empty for joint answers, whose curves are in the two runs of `settings.pairing`, and for failures
            without a curve.

        Raises
        ------
        MissingDataError
            If another version published the curves in another form.
        PublishError
            If the server is away, or the run is still being written.
        """
        stated = as_mapping(self.prediction.start.get(CURVES))
        container: Any = {self.prediction.uid: self}
        found: dict[str, Xanes | PairDistribution] = {}
        if "xanes" in stated:
            found["xanes"] = read_xanes(container, self.prediction)
        if "pdf" in stated:
            found["pdf"] = read_distribution(container, self.prediction, over_q=True)
        return found

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the curve with the answer, and return the figure.

        Parameters
        ----------
        path
            Picture to write (PNG, SVG or PDF, by its suffix); None for none.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        MissingDataError
            If the run has no curve.
        """
        from bluesky_xpdml.figures.curves import predictions_figure

        curves: dict[str, Any] = self.curves()
        if not curves:
            raise MissingDataError(
                f"expected a curve in run {self.prediction.uid}, found none: joint answers name the runs "
                "with their curves under settings.pairing, failures have reasons in quality"
            )
        shown = self.prediction
        figure = predictions_figure(
            [
                Prediction(
                    technique=shown.technique,
                    element=shown.element,
                    edge=shown.edge,
                    quality=shown.quality,
                    descriptors=shown.descriptors,
                    source=str(shown.start.get("source", "")),
                    **curves,
                )
            ]
        )
        if path is not None:
            figure.savefig(path)
        return figure
