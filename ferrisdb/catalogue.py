"""The catalogue of key spaces: which names there are, and what id each has.

It is ordinary data in a key space of its own, which no user reaches:

    n NAME   the id, u32 big-endian, of the key space of that name
    i ID     its name; the coordinator refuses writes to ids that have none
    c        how many ids were ever given out, in decimal: no id is used again

Changes are optimistic transactions over these keys. An id that is never reused lets every process
tell by its own key alone whether the key space it has a handle of still lives, and keeps what is
left of a dropped one, until compaction has taken it away, from showing in another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrisdb.backoff import Backoff
from ferrisdb.errors import (
    ConflictError,
    CorruptionError,
    KeyspaceDroppedError,
    SnapshotTooOldError,
    UsageError,
    WrongTypeError,
)
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.rows import open_rows
from ferrisdb.kernel.space import Space
from ferrisdb.keys import CATALOGUE_PREFIX, keyspace_prefix, prefix_end
from ferrisdb.limits import KEYSPACE_NAME_BYTES_MAX
from ferrisdb.read_set import key_check

if TYPE_CHECKING:
    from ferrisdb.attached import Attached

_COUNTER = b"c"


def _name_key(name: str) -> bytes:
    if not isinstance(name, str):
        raise WrongTypeError(f"a key space's name is text, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a key space's name is Unicode text: {name!r} is not") from error
    if not 0 < len(encoded) <= KEYSPACE_NAME_BYTES_MAX:
        raise UsageError(
            f"a key space's name has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes of UTF-8,"
            f" not {len(encoded)}"
        )
    return b"n" + encoded


def _id_key(number: int) -> bytes:
    return b"i" + number.to_bytes(4, "big")


def _catalogue(attached: Attached) -> Space:
    return Space(attached, CATALOGUE_PREFIX)


def _number_of(value: bytes, name: str) -> int:
    if len(value) != 4:
        raise CorruptionError(
            f"catalogue entry of key space {name!r}", 0, "an id of 4 bytes", value
        )
    return int.from_bytes(value, "big")


def names(attached: Attached) -> list[str]:
    """Return the names of all key spaces, in order of their bytes."""
    rows = open_rows(_catalogue(attached), None, None, None, b"n", None, False, True)
    return [key[1:].decode(errors="backslashreplace") for key in rows]


def find(attached: Attached, name: str, *, create: bool) -> int:
    """Return the id of a key space, created if it isn't there.

    Raises:  KeyspaceDroppedError, it isn't there and `create` is False; as `Database.keyspace`.
    Durable: a creation, yes.
    """
    key = _name_key(name)
    space = _catalogue(attached)
    backoff = Backoff(attached.deadline_ns())
    while True:
        attached.enter_call()
        pin = attached.take_pin()
        try:
            value, _ = space.entry_at(pin, key)
            if value is not None:
                return _number_of(value, name)
            if not create:
                raise KeyspaceDroppedError(f"there is no key space {name!r}: create it")
            counted, _ = space.entry_at(pin, _COUNTER)
            number = int(counted or b"0") + 1
            batch = BatchBuffer(CATALOGUE_PREFIX)
            batch.put(key, number.to_bytes(4, "big"))
            batch.put(_id_key(number), name.encode())
            batch.put(_COUNTER, b"%d" % number)
            attached.commit(
                batch,
                layout.DURABILITY_SYNC,
                generation=pin.generation,
                snapshot_seq=pin.seq,
                checks=key_check(CATALOGUE_PREFIX + key) + key_check(CATALOGUE_PREFIX + _COUNTER),
            )
            return number
        except (ConflictError, SnapshotTooOldError) as error:
            lost = error
        finally:
            pin.release()
        backoff.after(lost)


def drop(attached: Attached, name: str) -> bool:
    """Remove a key space and its keys; tell whether it was there. Durable: yes."""
    key = _name_key(name)
    space = _catalogue(attached)
    backoff = Backoff(attached.deadline_ns())
    while True:
        attached.enter_call()
        pin = attached.take_pin()
        try:
            value, _ = space.entry_at(pin, key)
            if value is None:
                return False
            number = _number_of(value, name)
            batch = BatchBuffer(CATALOGUE_PREFIX)
            batch.delete(key)
            batch.delete(_id_key(number))
            batch.switch(keyspace_prefix(number))
            batch.delete_range(None, None)
            attached.commit(
                batch,
                layout.DURABILITY_SYNC,
                generation=pin.generation,
                snapshot_seq=pin.seq,
                checks=key_check(CATALOGUE_PREFIX + key),
            )
            break
        except (ConflictError, SnapshotTooOldError) as error:
            lost = error
        finally:
            pin.release()
        backoff.after(lost)
    prefix = keyspace_prefix(number)
    # Not waited for; the tombstone's range is reclaimed as the tree's shape asks for, too.
    attached.ask_compaction(prefix, prefix_end(prefix))
    return True
