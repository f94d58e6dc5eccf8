"""DIR/clients: who is attached and who lives. Method: real processes, killed and forked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.kernel import layout
from ferrisdb.shm import registry
from ferrisdb.shm.client import check_client
from ferrisdb.shm.names import SegmentNames, large_number
from ferrisdb.shm.registry import ENTRY_BYTES, ClientRegistration, RegistryReader
from ferrisdb.shm.segment import Segment
from tests.support import shm_child
from tests.unit.shm.conftest import segments_of

ID_A = b"a" * 16
ID_B = b"b" * 16


@pytest.fixture
def reader(names: SegmentNames) -> Iterator[RegistryReader]:
    made = RegistryReader(names.directory, names)
    yield made
    made.close()
    made.close()
    assert not registry._files


def test_claim_publishes_a_formatted_segment(names: SegmentNames, reader: RegistryReader) -> None:
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    (entry,) = reader.entries()
    assert (entry.index, entry.client_id, entry.pid) == (0, ID_A, os.getpid())
    assert entry.segment_name == f"/fdb{names.nonce}.c0"
    assert reader.entry(0) == entry and reader.entry(7) is None
    opened = Segment.open(entry.segment_name, writable=True, bytes_expected=layout.CLIENT_BYTES)
    assert opened is not None
    check_client(opened, ID_A)
    assert reader.alive(0) and not reader.alive(1)
    ours.release()
    ours.release()
    assert reader.entries() == [] and not reader.alive(0)
    opened.close()


def test_two_handles_of_one_process_get_two_indexes(
    names: SegmentNames, reader: RegistryReader
) -> None:
    first = ClientRegistration.claim(names.directory, names, ID_A)
    second = ClientRegistration.claim(names.directory, names, ID_B)
    assert (first.index, second.index) == (0, 1)
    first.release()
    # R4: the release of one must not have dropped the other's lock.
    assert not reader.alive(0) and reader.alive(1)
    third = ClientRegistration.claim(names.directory, names, ID_A)
    assert (third.index, third.attach_no) == (0, first.attach_no + 1)
    second.release()
    third.release()


def test_closing_a_reader_keeps_the_locks_of_this_process(names: SegmentNames) -> None:
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    for _ in range(2):
        reader = RegistryReader(names.directory, names)
        reader.close()
    child, said = shm_child.start("client", names.directory)
    assert said == "1"
    shm_child.stop(child, kill=True)
    reader = RegistryReader(names.directory, names)
    assert reader.alive(0) and not reader.alive(1)
    assert reader.reap_all() == 1
    reader.close()
    ours.release()


def test_killed_client_is_dead_and_reaped(names: SegmentNames, reader: RegistryReader) -> None:
    child, said = shm_child.start("large-client", names.directory)
    assert said == "0" and reader.alive(0)
    assert not reader.reap(0)
    shm_child.stop(child, kill=True)
    assert not reader.alive(0)
    (entry,) = reader.entries()
    assert entry.client_id == shm_child.CLIENT_ID
    assert len(segments_of(names.nonce)) == 2
    assert reader.reap(0) and reader.reap(0)
    assert reader.entries() == [] and segments_of(names.nonce) == []


def test_next_claim_cleans_up_behind_the_dead(names: SegmentNames, reader: RegistryReader) -> None:
    child, _ = shm_child.start("large-client", names.directory)
    shm_child.stop(child, kill=True)
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    assert (ours.index, ours.attach_no) == (0, 2)
    assert segments_of(names.nonce) == [names.name("c", 0)]
    (entry,) = reader.entries()
    assert entry.client_id == ID_A
    ours.release()


def test_dead_client_cannot_name_another_ones_segment(
    names: SegmentNames, reader: RegistryReader
) -> None:
    others = Segment.create(names.name("x", large_number(5, 1)), 4096)
    for number in (large_number(5, 1), 2**64 - 1, 2**64 - 4096):
        ours = ClientRegistration.claim(names.directory, names, ID_A)
        with ours.segment.view as view:
            layout.store64(view, layout.CLIENT_LARGE, number)
        ours.release()
    assert segments_of(names.nonce) == [others.name]
    others.unlink()
    others.close()


def test_forked_child_releases_nothing_and_attaches_anew(
    names: SegmentNames, reader: RegistryReader
) -> None:
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Whatever happens here, the child must not run on into pytest.
        try:
            inherited = ours.is_ours
            ours.release()
            own = ClientRegistration.claim(names.directory, names, ID_B)
            os.write(write_fd, f"{inherited} {own.index}".encode())
            own.release()
        finally:
            os._exit(0)
    os.close(write_fd)
    os.waitpid(pid, 0)
    assert os.read(read_fd, 99) == b"False 1"
    os.close(read_fd)
    assert reader.alive(0) and ours.is_ours
    assert [entry.client_id for entry in reader.entries()] == [ID_A]
    ours.release()


def test_torn_and_foreign_entries_read_as_free(names: SegmentNames, reader: RegistryReader) -> None:
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    with open(Path(names.directory) / "segments"):
        copy = reader._opened.read_entry(0)
    for at in range(ENTRY_BYTES):
        torn = copy[:at] + bytes([copy[at] ^ 0x10]) + copy[at + 1 :]
        assert registry.decode_entry(0, torn, names) is None
    assert registry.decode_entry(1, copy, names) is None
    foreign = SegmentNames(names.directory, "0" * 12, None)
    assert registry.decode_entry(0, copy, foreign) is None
    ours.release()


def test_full_shared_memory_leaves_the_index_free(
    names: SegmentNames, reader: RegistryReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.statvfs("/dev/shm")
    with monkeypatch.context() as patch:
        patch.setattr(layout, "CLIENT_BYTES", status.f_blocks * status.f_frsize + 4096)
        with pytest.raises(OSError, match="enlarge /dev/shm"):
            ClientRegistration.claim(names.directory, names, ID_A)
    assert not reader.alive(0) and reader.entries() == []
    ours = ClientRegistration.claim(names.directory, names, ID_A)
    assert ours.index == 0
    ours.release()
