"""An analysis whose predictions say under which settings of the beamtime they were made."""

from dataclasses import dataclass

from bluesky_xpdml.callbacks.analysis import RunAnalysis
from bluesky_xpdml.documents import CollectedRun
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.settings import Settings, with_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamtimeAnalysis:
    """What another analysis says of runs, with the settings of the beamtime."""

    analysis: RunAnalysis
    """Says something of runs."""
    settings: Settings
    """Of the beamtime."""

    def prepare(self) -> None:
        """Load what the first run would have to wait for."""
        self.analysis.prepare()

    def predict(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return the predictions for a run.

        Parameters
        ----------
        run
            The collected run.
        """
        return tuple(with_settings(each, self.settings) for each in self.analysis.predict(run))

    def update(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return what can be said of a run that goes on.

        Parameters
        ----------
        run
            What was collected up to now.
        """
        return tuple(with_settings(each, self.settings) for each in self.analysis.update(run))

    def failure(self, run: CollectedRun, reason: str) -> Prediction:
        """Return the failed prediction for a run.

        Parameters
        ----------
        run
            The collected run.
        reason
            Why, for people.
        """
        return with_settings(self.analysis.failure(run, reason), self.settings)
