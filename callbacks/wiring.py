"""What a callback is put together from beside its analysis: live updates, and the search for partners."""

from bluesky_xpdml.callbacks.analysis import RunAnalysis
from bluesky_xpdml.callbacks.beamtime import BeamtimeAnalysis
from bluesky_xpdml.callbacks.live import LiveSettings, LiveUpdates
from bluesky_xpdml.callbacks.pairing import Pairing
from bluesky_xpdml.callbacks.pairing_publisher import PairingPublisher
from bluesky_xpdml.callbacks.pairing_rules import PairingSettings
from bluesky_xpdml.callbacks.total_scattering import ScatteringSettings
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish import LivePublisher, PredictionCatalog, Publisher, TiledPublisher
from bluesky_xpdml.settings import Settings


def live_updates(
    analysis: RunAnalysis | BeamtimeAnalysis,
    publisher: Publisher,
    scattering: ScatteringSettings,
    live: LiveSettings,
) -> LiveUpdates | None:
    """Return what is published of runs that go on; None where nothing is.

    Parameters
    ----------
    analysis
        Says something of runs that go on.
    publisher
        Where it goes.
    scattering, live
        Of which techniques, and how often.

    Raises
    ------
    PublishError
        If live results are asked for and the publisher takes whole runs only.
    """
    intervals = [scattering.live_interval] * scattering.live + [live.interval] * live.xanes
    if not intervals:
        return None
    if not isinstance(publisher, LivePublisher):
        raise PublishError(
            f"expected a publisher that takes runs that go on, found {type(publisher).__name__}: "
            "switch live results off, or give it a method extend"
        )
    return LiveUpdates(analysis.update, publisher, max(intervals))


def with_pairing(
    publisher: Publisher, settings: PairingSettings | None, *, store: BundleStore, beamtime: Settings | None
) -> Publisher:
    """Return a publisher that looks for partners too; the same one where nothing is paired.

    Parameters
    ----------
    publisher
        Where answers go.
    settings
        Which belong together; None for none.
    store
        The models that may answer.
    beamtime
        Settings of the beamtime, which joint answers tell; None where there are none.

    Raises
    ------
    PublishError
        If the publisher has no container in which partners could be found.
    """
    if settings is None:
        return publisher
    if not isinstance(publisher, TiledPublisher):
        raise PublishError(
            f"expected a TiledPublisher, in whose container partners are found, found "
            f"{type(publisher).__name__}: switch pairing off, or wrap it in a PairingPublisher"
        )
    catalog = PredictionCatalog(publisher.container)
    pairing = Pairing(catalog=catalog, store=store, settings=settings, beamtime=beamtime)
    return PairingPublisher(publisher, pairing)
