"""From predictions to Bluesky documents to Tiled."""

from bluesky_xpdml.publish.cursor import Cursor
from bluesky_xpdml.publish.documents import derived_run, run_uid, summary
from bluesky_xpdml.publish.durable import outbox_publisher
from bluesky_xpdml.publish.live import LIVE_PURPOSE, LiveRun
from bluesky_xpdml.publish.outbox import Outbox
from bluesky_xpdml.publish.outbox_entry import OutboxEntry
from bluesky_xpdml.publish.predictions import PredictionCatalog, find_predictions
from bluesky_xpdml.publish.published import PublishedPrediction, published
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.publish.sender import OutboxPublisher, Sender, SenderCounts
from bluesky_xpdml.publish.state import state_folder
from bluesky_xpdml.publish.status import Status, read_statuses, status_path
from bluesky_xpdml.publish.subscription import Subscription
from bluesky_xpdml.publish.tables import dataset, frame
from bluesky_xpdml.publish.tiled import (
    CallbackPublisher,
    LivePublisher,
    Publisher,
    TiledPublisher,
    connect,
    open_container,
    open_existing,
)

__all__ = [
    "LIVE_PURPOSE",
    "CallbackPublisher",
    "Cursor",
    "LivePublisher",
    "LiveRun",
    "Outbox",
    "OutboxEntry",
    "OutboxPublisher",
    "PredictionCatalog",
    "PublishedPrediction",
    "Publisher",
    "Query",
    "Sender",
    "SenderCounts",
    "Status",
    "Subscription",
    "TiledPublisher",
    "connect",
    "dataset",
    "derived_run",
    "find_predictions",
    "frame",
    "open_container",
    "open_existing",
    "outbox_publisher",
    "published",
    "read_statuses",
    "run_uid",
    "state_folder",
    "status_path",
    "summary",
]
