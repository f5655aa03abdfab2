"""Which analysis a run gets: by what it says of itself, and failing that by what it holds."""

from dataclasses import dataclass, replace
from importlib import import_module

from bluesky_xpdml.analysis.scattering import ScatteringAnalysis, failed_scattering
from bluesky_xpdml.analysis.xanes import XanesAnalysis, analyse_partial_run, failed_run, is_derived
from bluesky_xpdml.documents import (
    CollectedRun,
    Profile,
    claims_absorption,
    claims_scattering,
    detect_profile,
    holds_energy_scan,
    is_scattering,
    load_profile,
    origin_of,
)
from bluesky_xpdml.models.explain import with_explanation
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.settings import Settings, with_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnalysis:
    """Both techniques behind one door, so that a beamline that has both needs one callback.

    A run is total scattering where it says so, describes images, and is no scan of the energy; absorption
    where it says so or is such a scan. Runs of the package itself, whose purpose begins with `xpdml`, are
    never analysed.
    """

    xanes: XanesAnalysis
    scattering: ScatteringAnalysis
    profile: str = "auto"
    """Which convention the runs follow; `auto` reads it from each start document."""
    live_xanes: bool = False
    """Whether something is said of absorption runs that go on."""
    live_scattering: bool = True
    """Whether something is said of total-scattering runs that go on."""
    explain_with: BundleStore | None = None
    """Models by which predictions are explained; None for not."""
    carry: tuple[str, ...] = ()
    """Further entries of the start document that predictions carry, dotted paths."""

    def prepare(self) -> None:
        """Import what the first spectrum and the first image need."""
        for module in ("scipy.ndimage", "pyFAI.integrator.azimuthal"):
            import_module(module)

    def predict(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return the predictions for a run; none where it is of another technique, or of dark frames.

        Parameters
        ----------
        run
            The collected run.
        """
        origin = origin_of(run.start, carry=self.carry)
        found = tuple(replace(each, origin=origin) for each in self._answers(run))
        store = self.explain_with
        return found if store is None else tuple(with_explanation(each, store) for each in found)

    def _answers(self, run: CollectedRun) -> tuple[Prediction, ...]:
        profile = self._profile_of(run)
        if is_derived(run.start):
            return ()
        if self._is_scattering(run, profile):
            if run.given_up:
                return (failed_scattering(run, run.given_up, profile=profile),)
            return self.scattering.predict(run, profile)
        prediction = self.xanes.predict(run)
        if prediction is None:
            return ()
        answers = (prediction, *self.xanes.others(run))
        return (*answers, *self.xanes.merged(run, answers))

    def update(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return what can be said of a run that goes on; nothing of a technique that is switched off.

        Parameters
        ----------
        run
            What was collected up to now.
        """
        profile = self._profile_of(run)
        if is_derived(run.start):
            return ()
        if self._is_scattering(run, profile):
            return self.scattering.update(run, profile) if self.live_scattering else ()
        if not self.live_xanes:
            return ()
        absorption = self.xanes
        return analyse_partial_run(
            run,
            profile=profile,
            store=absorption.store,
            settings=absorption.settings,
            memory=absorption.memory,
        )

    def failure(self, run: CollectedRun, reason: str) -> Prediction:
        """Return the failed prediction for a run.

        Parameters
        ----------
        run
            The collected run.
        reason
            Why, for people.
        """
        profile = self._profile_of(run)
        failed = failed_scattering if self._is_scattering(run, profile) else failed_run
        answer = failed(run, reason, profile=profile)
        return replace(answer, origin=origin_of(run.start, carry=self.carry))

    def _profile_of(self, run: CollectedRun) -> Profile:
        return detect_profile(run.start) if self.profile == "auto" else load_profile(self.profile)

    def _is_scattering(self, run: CollectedRun, profile: Profile) -> bool:
        if not run.streams:
            # A run that ended before it described anything is what it says of itself.
            return claims_scattering(run.start, profile) and not claims_absorption(run.start, profile)
        return is_scattering(run, profile) and not holds_energy_scan(run, profile)


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
