"""Errors of the package, one tree.

::

    XpdmlError
    ├── DocumentError(ValueError)        a Bluesky run or a file does not hold what a record needs
    │   ├── MissingDataError             a key, a column, a stream or a document is absent
    │   └── FileFormatError              a data file cannot be read as what it claims to be
    ├── ReductionError(ValueError)       a record cannot be reduced
    ├── FeatureError(ValueError)         a spectrum does not cover the grid of a model
    ├── ModelError
    │   ├── BundleError(ValueError)      a bundle is damaged, altered or of an unknown format
    │   └── ModelNotFoundError(LookupError)   no bundle answers for this element and modality
    ├── SettingsError(ValueError)        a settings file or variable says what cannot be used
    ├── PublishError(RuntimeError)       predictions could not be handed to where they belong
    ├── SourceError(RuntimeError)        a stream of documents cannot be listened to
    ├── SimulationError(ValueError)      a structure cannot be simulated as asked
    ├── TrainingError(ValueError)        a data set cannot be trained on
    ├── PlanningError(ValueError)        a planner asked for what cannot be told
    └── BeamlineError(ValueError)        the simulated beamline was asked for what it does not have

Each is also a builtin exception, so that callers catch either. Messages say what was expected, what was
found, and what to do.
"""


class XpdmlError(Exception):
    """Base of every error that this package raises on purpose."""


class DocumentError(XpdmlError, ValueError):
    """A Bluesky run or a data file does not hold what a record needs."""


class MissingDataError(DocumentError):
    """A key, a column, a stream or a document is absent."""


class FileFormatError(DocumentError):
    """A data file cannot be read as what it claims to be."""


class ReductionError(XpdmlError, ValueError):
    """A record cannot be reduced; the message is the reason that is published."""


class FeatureError(XpdmlError, ValueError):
    """A spectrum does not cover what a model looks at; nothing is extrapolated."""


class ModelError(XpdmlError):
    """Base of errors about models."""


class BundleError(ModelError, ValueError):
    """A bundle is damaged, altered, or of a format this version does not know."""


class ModelNotFoundError(ModelError, LookupError):
    """No bundle answers for the element, edge and modality asked for."""


class SettingsError(XpdmlError, ValueError):
    """A settings file, a variable of the environment or an option says what cannot be used."""


class PublishError(XpdmlError, RuntimeError):
    """Predictions could not be handed to where they belong."""


class SourceError(XpdmlError, RuntimeError):
    """A stream of documents cannot be listened to."""


class SimulationError(XpdmlError, ValueError):
    """A structure cannot be simulated as asked."""


class TrainingError(XpdmlError, ValueError):
    """A data set cannot be trained on."""


class PlanningError(XpdmlError, ValueError):
    """A planner asked for what cannot be told: a failed prediction, an element without table."""


class BeamlineError(XpdmlError, ValueError):
    """The simulated beamline was asked for a sample or a position that it does not have."""
