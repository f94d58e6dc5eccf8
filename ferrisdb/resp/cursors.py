"""Cursors of SCAN: a position in the order of the keys as a number, good on any worker.

A position is the first key that is yet to be returned, or any string between the last one that was
and that: the shortest is the **cut**, the next key's bytes up to the first that tells the two
apart. Whatever is added or removed between two calls, all that lies behind a position stays behind
it; so every key that is there throughout is returned, and 0 is the end.

A number has 53 bits, for there are clients that keep cursors in doubles. What fits:

    plain     a cut of 1 to 6 bytes:  length (3 bits), 6 bytes
    far       1 (bit 52), the number of a **stem** (26 bits), a tail of 1 to 3 bytes: length
              (2 bits), 3 bytes; the cut is stem and tail

Keys with long common prefixes have cuts too long for the plain form. Their stems, all of a cut but
its last bytes, are few, as a stem serves all cuts that continue it: a thousand of decimal digits.
They are kept in the database itself, outside of every key space, under a number made from
their hash, and expire a day after a cursor used them last. So a SCAN writes now and then.

C1  A stem's number is never given to another stem while it lives: who writes one reads, in the
    same transaction, what stands there.
C2  A stem is written, and has half its time to live, before a cursor with it is answered.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from ferrisdb.kernel import layout
from ferrisdb.resp.command import CommandError
from ferrisdb.resp.execution import Execution
from ferrisdb.resp.replies import Failure, Reply

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session
    from ferrisdb.transaction import Transaction, TransactionWriter

PLAIN_BYTES_MAX: Final = 6
TAIL_BYTES_MAX: Final = 3
_FAR: Final = 1 << 52
CURSOR_MAX: Final = (1 << 53) - 1
_STEM_SHIFT: Final = 26
_STEM_COUNT: Final = 1 << 26
_PROBES: Final = 16
STEM_US: Final = 86_400_000_000
"""How long a stem lives behind its last use, at most; half of that, at least."""
_REMEMBERED_MAX: Final = 4096

LOST: Final = b"ERR invalid cursor: it was not used for too long; begin again with SCAN 0"


def cut(last: bytes, following: bytes) -> bytes:
    """Return the shortest string above `last` that is not above `following`, which is above it."""
    length = min(len(last), len(following))
    if last[:length] == following[:length]:
        return following[: length + 1]
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if last[:middle] == following[:middle]:
            low = middle
        else:
            high = middle
    return following[:high]


def is_plain(position: bytes) -> bool:
    """Tell whether a position needs no stem."""
    return len(position) <= PLAIN_BYTES_MAX


def stem_of(position: bytes) -> bytes:
    """Return the stem of a position that is not plain."""
    return position[: (len(position) - 1) // TAIL_BYTES_MAX * TAIL_BYTES_MAX]


def plain_cursor(position: bytes) -> int:
    """Return the number of a plain position, which is not empty."""
    head = int.from_bytes(position.ljust(PLAIN_BYTES_MAX, b"\0"), "big")
    return len(position) << 48 | head


def far_cursor(stem_number: int, tail: bytes) -> int:
    """Return the number of a stem and a tail."""
    head = int.from_bytes(tail.ljust(TAIL_BYTES_MAX, b"\0"), "big")
    return _FAR | stem_number << _STEM_SHIFT | len(tail) << 24 | head


class Stems:
    """The stems that one worker knows to be written. Owner: its loop."""

    def __init__(self) -> None:
        #: By stem: its number, and until when it is good for a new cursor (C2).
        self._known: dict[bytes, tuple[int, int]] = {}

    def number(self, stem: bytes, now_us: int) -> int | None:
        """Return a stem's number if it may be used without looking."""
        found = self._known.get(stem)
        return found[0] if found is not None and now_us < found[1] else None

    def note(self, stem: bytes, number: int, expires_us: int) -> None:
        """Note a stem that stands in the database."""
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[stem] = number, expires_us - STEM_US // 2


def position_of(service: Service, cursor: int) -> bytes | None:
    """Return the position that a cursor above 0 means; None: it was never one of ours.

    Raises:  CommandError, its stem is gone; one of our errors.
    """
    if cursor < _FAR:
        length = cursor >> 48
        if not 1 <= length <= PLAIN_BYTES_MAX:
            return None
        return (cursor & (1 << 48) - 1).to_bytes(PLAIN_BYTES_MAX, "big")[:length]
    length = cursor >> 24 & 3
    if cursor >= _FAR << 1 or not length:
        return None
    number = cursor >> _STEM_SHIFT & _STEM_COUNT - 1
    stem: bytes | None = service.stems_space.get(number.to_bytes(4, "big"))
    if stem is None:
        raise CommandError(LOST)
    return stem + (cursor & (1 << 24) - 1).to_bytes(TAIL_BYTES_MAX, "big")[:length]


def write_stem(writer: TransactionWriter, stem: bytes, now_us: int) -> tuple[int, int]:
    """Find or write a stem; returns its number and its expiry (C1, C2).

    Raises:  CommandError, all its numbers are taken; as a transaction does.
    """
    for probe in range(_PROBES):
        digest = hashlib.blake2b(stem, digest_size=8, salt=bytes([probe])).digest()
        number = int.from_bytes(digest, "big") % _STEM_COUNT
        key = number.to_bytes(4, "big")
        held, expires_us = writer.entry(key)
        if held not in (None, stem):
            continue
        if held is None or expires_us < now_us + STEM_US // 2:
            expires_us = now_us + STEM_US
            writer.put_until(key, stem, expires_us)
        return number, expires_us
    raise CommandError(b"TRYAGAIN too many SCANs stand at different places: try again later")


class StemWrite(Execution):
    """Writes the stem of a SCAN's next position, then answers.

    Shape:   found, the keys of the reply.
    """

    __slots__ = ("_found", "_position", "_written")

    def __init__(self, session: Session, position: bytes, found: list[bytes]) -> None:
        super().__init__(session)
        self.durability = layout.DURABILITY_OS
        self._position = position
        self._found = found
        self._written: tuple[bytes, int, int] = b"", 0, 0

    def _run(self, tx: Transaction) -> Reply:
        service = self._session.service
        stem = stem_of(self._position)
        now_us = tx.pin().now_us
        number, expires_us = write_stem(tx.keyspace(service.stems_space), stem, now_us)
        self._written = stem, number, expires_us
        return scan_reply(far_cursor(number, self._position[len(stem) :]), self._found)

    def _end(self, reply: Reply) -> None:
        if not isinstance(reply, Failure):
            self._session.service.stems.note(*self._written)
        super()._end(reply)


def scan_reply(cursor: int, found: list[bytes]) -> Reply:
    """Return SCAN's reply."""
    return [b"%d" % cursor, found]
