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
    ├── MissingExtraError(ImportError)   a part needs packages that are not installed
    ├── SettingsError(ValueError)        a settings file or variable says what cannot be used
    ├── PublishError(RuntimeError)       predictions could not be handed to where they belong
    │   └── ServerAwayError              the server does not answer or refuses everything: try again later
    ├── ProcessEndedError(RuntimeError)  the process of the analysis ended before it was finished
    ├── SourceError(RuntimeError)        a stream of documents cannot be listened to
    ├── SimulationError(ValueError)      a structure cannot be simulated as asked
    ├── TrainingError(ValueError)        a data set cannot be trained on
    ├── PlanningError(ValueError)        a planner asked for what cannot be told
    └── BeamlineError(ValueError)        the simulated beamline was asked for what it does not have

Each is also a builtin exception, so that callers catch either. Messages say what was expected, what was
found, and what to do. Each carries a reason code, which a prediction that fails with it publishes.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from bluesky_xpdml.vocabulary import Reason, ReasonCode

Result = TypeVar("Result")

HIDDEN = "[hidden]"
"""What stands in a text for a key or a password."""
_SECRETS = (
    (re.compile(r"(?<=://)[^/?#\s]+@"), ""),
    (re.compile(r"(?i)\b(api_?key|access_token|refresh_token)=[^&#\s'\"]+"), rf"\1={HIDDEN}"),
    # Tiled names the first half of a key that it could not use.
    (re.compile(r"(?i)\b(api key) '[^']*'"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b(authorization['\"]?\s*[:=,]\s*['\"]?\w+) [^\s'\"]+"), rf"\1 {HIDDEN}"),
)


def redacted(text: str) -> str:
    """Return a text whose addresses hold neither keys nor passwords; every message of an error is one.

    Examples
    --------
    >>> redacted("no answer from http://me:secret@localhost:8000/?api_key=secret")
    'no answer from http://localhost:8000/?api_key=[hidden]'
    """
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


class XpdmlError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    message
        What was expected, what was found, and what to do. A `Reason` brings its own code.
    code
        Kind of reason, if not that of the class.

    Examples
    --------
    >>> ReductionError("the scan ends at the edge", ReasonCode.EDGE_NOT_COVERED).reason.code
    <ReasonCode.EDGE_NOT_COVERED: 'edge-not-covered'>
    """

    default_code: ClassVar[ReasonCode] = ReasonCode.INTERNAL_ERROR

    def __init__(self, message: str = "", code: ReasonCode | None = None) -> None:
        super().__init__(redacted(message))
        own = message.code if isinstance(message, Reason) else self.default_code
        self.code = code or own

    @property
    def reason(self) -> Reason:
        """The message with its code, as a failed prediction publishes it."""
        return Reason(str(self), self.code)


class DocumentError(XpdmlError, ValueError):
    """A Bluesky run or a data file does not hold what a record needs."""

    default_code = ReasonCode.INVALID_DOCUMENT


class MissingDataError(DocumentError):
    """A key, a column, a stream or a document is absent."""

    default_code = ReasonCode.MISSING_DATA


class FileFormatError(DocumentError):
    """A data file cannot be read as what it claims to be."""

    default_code = ReasonCode.UNREADABLE_FILE


class ReductionError(XpdmlError, ValueError):
    """A record cannot be reduced; the message is the reason that is published."""

    default_code = ReasonCode.REDUCTION_FAILED


class FeatureError(XpdmlError, ValueError):
    """A spectrum does not cover what a model looks at; nothing is extrapolated."""

    default_code = ReasonCode.FEATURES_NOT_COVERED


class ModelError(XpdmlError):
    """Base of errors about models."""

    default_code = ReasonCode.MODEL_DAMAGED


class BundleError(ModelError, ValueError):
    """A bundle is damaged, altered, or of a format this version does not know."""


class ModelNotFoundError(ModelError, LookupError):
    """No bundle answers for the element, edge and modality asked for."""

    default_code = ReasonCode.MODEL_MISSING


class MissingExtraError(XpdmlError, ImportError):
    """A part of the package needs an extra that is not installed; the message says which."""

    default_code = ReasonCode.EXTRA_MISSING


class SettingsError(XpdmlError, ValueError):
    """A settings file, a variable of the environment or an option says what cannot be used."""

    default_code = ReasonCode.SETTINGS_INVALID


class PublishError(XpdmlError, RuntimeError):
    """Predictions could not be handed to where they belong."""

    default_code = ReasonCode.PUBLISHING_FAILED


class ServerAwayError(PublishError):
    """The server does not answer, has no room, or refuses the key: no run is at fault, a later try may do."""


class ProcessEndedError(XpdmlError, RuntimeError):
    """The process of the analysis ended before it had answered; another one begins again."""

    default_code = ReasonCode.PROCESS_ENDED


class SourceError(XpdmlError, RuntimeError):
    """A stream of documents cannot be listened to."""

    default_code = ReasonCode.SOURCE_FAILED


class SimulationError(XpdmlError, ValueError):
    """A structure cannot be simulated as asked."""

    default_code = ReasonCode.SIMULATION_FAILED


class TrainingError(XpdmlError, ValueError):
    """A data set cannot be trained on."""

    default_code = ReasonCode.TRAINING_FAILED


class PlanningError(XpdmlError, ValueError):
    """A planner asked for what cannot be told: a failed prediction, an element without table."""

    default_code = ReasonCode.PLANNING_FAILED


class BeamlineError(XpdmlError, ValueError):
    """The simulated beamline was asked for a sample or a position that it does not have."""

    default_code = ReasonCode.SIMULATION_FAILED


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the failed import of a package into an error that says which extra to install.

    Examples
    --------
    >>> with needs_extra("demo"):
    ...     import absent
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.MissingExtraError: expected absent, not installed: pip install 'bluesky-xpdml[demo]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"expected {error.name}, not installed: pip install 'bluesky-xpdml[{extra}]'"
        ) from error


def attempt(action: Callable[[], Result]) -> Result | Exception:
    """Return what an action returns or raises: the only place that catches every exception.

    Examples
    --------
    >>> attempt(lambda: 1 / 0)
    ZeroDivisionError('division by zero')
    """
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - the guarded border
        return error


def internal_reason(error: Exception) -> Reason:
    """Return the reason of a prediction that failed with an unforeseen error, or for lack of memory."""
    if isinstance(error, MemoryError):
        return Reason(
            "expected a run that fits into the memory of the analysis, found one that does not "
            f"({str(error)[:200] or 'no memory left'}): raise limits.memory in the settings",
            ReasonCode.MEMORY_LIMIT,
        )
    text = redacted(f"internal error: {type(error).__name__}: {str(error)[:200]}")
    return Reason(text, ReasonCode.INTERNAL_ERROR)


def reason_of(error: Exception) -> Reason:
    """Return the reason of a prediction that failed with an error, foreseen or not."""
    if isinstance(error, XpdmlError):
        return error.reason
    return (
        Reason(redacted(str(error)), ReasonCode.UNREADABLE_FILE)
        if isinstance(error, OSError)
        else internal_reason(error)
    )
