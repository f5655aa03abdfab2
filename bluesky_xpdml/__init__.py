"""Structure descriptors from XANES and PDF, in real time, inside Bluesky."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

__version__ = version("bluesky-xpdml")

__all__ = [
    "AbsorptionScan",
    "BundleStore",
    "CallbackPublisher",
    "Descriptor",
    "LiveSettings",
    "Modality",
    "PairingSettings",
    "Prediction",
    "PredictionCatalog",
    "Publisher",
    "Quality",
    "Query",
    "Reason",
    "ReasonCode",
    "ScatteringSettings",
    "SeriesSettings",
    "Settings",
    "Statistics",
    "Technique",
    "TiledPublisher",
    "Verdict",
    "Xanes",
    "XanesSettings",
    "XpdmlCallback",
    "XpdmlError",
    "__version__",
    "absorption_scan",
    "analyse_pattern",
    "analyse_scan",
    "derived_run",
    "find_predictions",
    "reduce_xanes",
]

# Loaded on first use: importing the package costs next to nothing.
_HOMES = {
    "AbsorptionScan": "records",
    "BundleStore": "models.store",
    "CallbackPublisher": "publish",
    "LiveSettings": "settings",
    "PairingSettings": "settings",
    "Prediction": "records",
    "PredictionCatalog": "publish",
    "Publisher": "publish",
    "Quality": "records",
    "Query": "publish",
    "ScatteringSettings": "settings",
    "SeriesSettings": "settings",
    "Settings": "settings",
    "Statistics": "callbacks.worker",
    "TiledPublisher": "publish",
    "Verdict": "records",
    "Xanes": "records",
    "XanesSettings": "reduction.xanes",
    "XpdmlCallback": "callbacks.callback",
    "XpdmlError": "errors",
    "absorption_scan": "documents",
    "analyse_pattern": "analysis.scattering",
    "analyse_scan": "analysis.xanes",
    "Descriptor": "vocabulary",
    "Modality": "vocabulary",
    "Reason": "vocabulary",
    "ReasonCode": "vocabulary",
    "Technique": "vocabulary",
    "derived_run": "publish",
    "find_predictions": "publish",
    "reduce_xanes": "reduction.xanes",
}

if TYPE_CHECKING:
    from bluesky_xpdml.analysis.scattering import analyse_pattern
    from bluesky_xpdml.analysis.xanes import analyse_scan
    from bluesky_xpdml.callbacks.callback import XpdmlCallback
    from bluesky_xpdml.callbacks.worker import Statistics
    from bluesky_xpdml.documents import absorption_scan
    from bluesky_xpdml.errors import XpdmlError
    from bluesky_xpdml.models.store import BundleStore
    from bluesky_xpdml.publish import (
        CallbackPublisher,
        PredictionCatalog,
        Publisher,
        Query,
        TiledPublisher,
        derived_run,
        find_predictions,
    )
    from bluesky_xpdml.records import AbsorptionScan, Prediction, Quality, Verdict, Xanes
    from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
    from bluesky_xpdml.settings import (
        LiveSettings,
        PairingSettings,
        ScatteringSettings,
        SeriesSettings,
        Settings,
    )
    from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode, Technique


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bluesky_xpdml.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
