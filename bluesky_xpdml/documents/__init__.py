"""From Bluesky documents to records: the only folder that knows data keys and keys of start documents."""

from bluesky_xpdml.documents.collector import RunCollector, collect_run, collector_for
from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.documents.measurement import Measurement, RunKind, read_run
from bluesky_xpdml.documents.profile import Profile, detect_profile, load_profile, profile_names
from bluesky_xpdml.documents.run import REMARK_CODES, CollectedRun, Stream
from bluesky_xpdml.documents.scan import absorption_scan, bragg_energy
from bluesky_xpdml.documents.scattering import Position, ScatteringRun, dark_of
from bluesky_xpdml.documents.start import origin_of
from bluesky_xpdml.documents.stored import FindsSamples, StoredRuns

__all__ = [
    "REMARK_CODES",
    "CollectedRun",
    "FindsSamples",
    "ImageMean",
    "Measurement",
    "Position",
    "Profile",
    "RunCollector",
    "RunKind",
    "ScatteringRun",
    "StoredRuns",
    "Stream",
    "absorption_scan",
    "bragg_energy",
    "collect_run",
    "collector_for",
    "dark_of",
    "detect_profile",
    "load_profile",
    "origin_of",
    "profile_names",
    "read_run",
]
