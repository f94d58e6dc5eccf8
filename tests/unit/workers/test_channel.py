"""Messages arrive whole and in order, whatever the sockets make of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from ferrisdb.workers.channel import OUTPUT_BYTES_MAX, Channel, QueuedChannel, encode


@pytest.fixture
def ends() -> Iterator[tuple[QueuedChannel, Channel]]:
    ours, theirs = socket.socketpair()
    hub, worker = QueuedChannel(ours), Channel(theirs)
    yield hub, worker
    hub.close()
    worker.close()


def test_both_ways_in_order(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, worker = ends
    for message in ("one", {"two": 2}, (3, b"\0")):
        hub.send(message)
        worker.send(message)
    assert [worker.receive() for _ in range(3)] == ["one", {"two": 2}, (3, b"\0")]
    assert hub.receive() == ["one", {"two": 2}, (3, b"\0")]
    assert hub.receive() == []


def test_pieces_become_messages(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, worker = ends
    sent = encode("x" * 10) + encode("y")
    raw = socket.socket(fileno=socket.dup(worker.fileno()))
    found = []
    with raw:
        for byte in sent:
            raw.sendall(bytes([byte]))
            found += hub.receive()
    assert found == ["x" * 10, "y"]


def test_the_hub_never_waits_for_a_worker(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, worker = ends
    message = "m" * 1_000_000
    for _ in range(5):
        hub.send(message)
    assert (hub.has_output, hub.is_stuck) == (True, False)
    received: list[object] = []
    thread = threading.Thread(target=lambda: received.extend(worker.receive() for _ in range(5)))
    thread.start()
    while hub.has_output:
        hub.flush()
    thread.join()
    assert received == [message] * 5


def test_who_takes_nothing_is_stuck(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, _ = ends
    hub.send(bytes(2 * OUTPUT_BYTES_MAX))
    assert hub.is_stuck


def test_what_was_sent_before_the_end_arrives(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, worker = ends
    worker.send("last")
    worker.close()
    hub.send("nobody reads this")
    assert hub.receive() == ["last"]
    with pytest.raises(EOFError):
        hub.receive()


def test_the_worker_hears_of_the_coordinators_end(ends: tuple[QueuedChannel, Channel]) -> None:
    hub, worker = ends
    hub.send("last")
    hub.close()
    assert worker.receive() == "last"
    with pytest.raises(EOFError):
        worker.receive()
    with pytest.raises(OSError, match="pipe"):
        worker.send("nobody reads this")
