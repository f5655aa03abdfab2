"""A full inbox gives up whole runs and marks each; it never drops a document of the others."""

import numpy as np

from bluesky_xpdml.callbacks import inbox as inbox_module
from bluesky_xpdml.callbacks.inbox import Close, Flush, GiveUp, Inbox

START = {"uid": "a"}
DESCRIPTOR = {"uid": "d", "run_start": "a"}
EVENT = {"descriptor": "d", "seq_num": 1}
STOP = {"run_start": "a"}


def offered(inbox, *documents):
    for document in documents:
        inbox.offer(*document)


def taken(inbox, number):
    items = []
    while len(items) < number:
        items += inbox.take()
    assert len(items) == number
    return items


def test_documents_come_out_in_order_and_are_the_same_objects():
    inbox = Inbox(capacity=10)
    offered(inbox, ("start", START), ("descriptor", DESCRIPTOR), ("event", EVENT), ("stop", STOP))
    out = taken(inbox, 4)
    assert [name for name, _ in out] == ["start", "descriptor", "event", "stop"]
    assert out[2][1] is EVENT


def test_the_run_whose_event_does_not_fit_is_given_up_once():
    inbox = Inbox(capacity=2)
    documents = [("event", EVENT)] * 3
    offered(inbox, ("start", START), ("descriptor", DESCRIPTOR), *documents, ("stop", STOP))
    assert taken(inbox, 3)[2] == GiveUp("a", None)
    offered(inbox, ("start", START | {"uid": "b"}))
    assert taken(inbox, 1) == [("start", {"uid": "b"})]


def test_the_other_run_goes_on_once_there_is_room():
    inbox = Inbox(capacity=2)
    other = {"uid": "d2", "run_start": "b"}
    offered(
        inbox, ("start", {"uid": "b"}), ("descriptor", other), ("start", START), ("descriptor", DESCRIPTOR)
    )
    assert taken(inbox, 3)[2] == GiveUp("a", START)
    in_other = {"descriptor": "d2", "seq_num": 1}
    offered(inbox, ("event", EVENT), ("event", in_other), ("stop", STOP))
    assert taken(inbox, 1) == [("event", in_other)]


def test_a_stop_that_does_not_fit_gives_up_its_run_only():
    inbox = Inbox(capacity=1)
    offered(inbox, ("start", START), ("stop", STOP))
    assert taken(inbox, 2)[1] == GiveUp("a", None)
    offered(inbox, ("start", START))
    assert taken(inbox, 1) == [("start", START)]


def test_a_document_that_says_not_where_it_belongs_is_counted_when_full():
    inbox = Inbox(capacity=0)
    offered(inbox, ("event", None), ("start", {"uid": []}), ("event", {"descriptor": {}}), ("nonsense", 3))
    assert inbox.n_orphans == 4


def test_markers_go_in_though_it_is_full():
    inbox = Inbox(capacity=0)
    marker = Flush.__new__(Flush)
    inbox.mark(marker)
    assert list(inbox.take()) == [marker]


def test_images_that_wait_are_bounded_by_their_size(monkeypatch):
    monkeypatch.setattr(inbox_module, "MAXIMUM_BYTES", 4000)
    inbox = Inbox(capacity=100)
    image = np.zeros((10, 10))
    event, page = EVENT | {"data": {"pe1_image": image}}, EVENT | {"data": {"pe1_image": [image]}}
    offered(inbox, ("start", START), ("descriptor", DESCRIPTOR), ("event", event), ("event_page", page))
    offered(inbox, ("event", event), ("event", event), ("stop", STOP))
    assert [type(item) for item in taken(inbox, 6)] == [tuple] * 5 + [GiveUp]
    offered(inbox, ("start", START), ("descriptor", DESCRIPTOR), ("event", event))
    assert taken(inbox, 3)[2] == ("event", event)


def test_what_waits_is_taken_together_up_to_a_marker(monkeypatch):
    inbox = Inbox(capacity=100)
    offered(inbox, ("start", START), ("event", EVENT))
    inbox.mark(Close())
    assert [type(item) for item in inbox.take()] == [tuple, tuple, Close]
    monkeypatch.setattr(inbox_module, "BATCH", 2)
    offered(inbox, *[("event", EVENT)] * 3)
    assert [len(inbox.take()), len(inbox.take())] == [2, 1]


def test_one_large_image_is_taken_at_a_time():
    inbox = Inbox(capacity=100)
    event = EVENT | {"data": {"pe1_image": np.zeros((2100, 2048))}}
    offered(inbox, ("event", event), ("event", event))
    assert [len(inbox.take()), len(inbox.take())] == [1, 1]
