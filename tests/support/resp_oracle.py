"""Read RESP requests in the plainest way: a whole stream at once, by slicing and splitting.

The twin of kernel/resp.pyx, for tests to compare it with.
"""

from __future__ import annotations

from typing import NamedTuple

INLINE_BYTES_MAX = 1 << 16
_BLANKS = b" \n\r\t\v\f"
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class Parsed(NamedTuple):
    """What a stream holds: whole requests, the error behind them, and what is left over."""

    requests: list[list[bytes]]
    error: bytes | None
    rest: bytes


class Fault(Exception):
    """A breach of the protocol; its text is the error line's, "" for none."""


class Incomplete(Exception):
    """More bytes are needed."""


def parse(stream: bytes, bulk_bytes_max: int, stranger: bool = False) -> Parsed:
    """Read every request of a stream."""
    requests: list[list[bytes]] = []
    while stream:
        try:
            if stream[:1] == b"*":
                args, used = _multibulk(stream, bulk_bytes_max, stranger)
            else:
                args, used = _inline(stream)
        except Incomplete:
            break
        except Fault as fault:
            text = fault.args[0]
            error = b"-ERR Protocol error: " + text + b"\r\n" if text else b""
            return Parsed(requests, error, b"")
        if args:
            requests.append(args)
        stream = stream[used:]
    return Parsed(requests, None, stream)


def _line(stream: bytes, at: int, name: bytes) -> tuple[bytes, int]:
    end = stream.find(b"\r", at)
    if end < 0:
        if len(stream) - at > INLINE_BYTES_MAX:
            raise Fault(b"too big " + name + b" count string")
        raise Incomplete
    if end + 1 >= len(stream):
        raise Incomplete
    return stream[at:end], end + 2


def _integer(text: bytes) -> int | None:
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or (digits[:1] == b"0" and text != b"0"):
        return None
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else None


def _multibulk(stream: bytes, bulk_bytes_max: int, stranger: bool) -> tuple[list[bytes], int]:
    line, at = _line(stream, 1, b"mbulk")
    count = _integer(line)
    if count is None or count >= 1 << 31:
        raise Fault(b"invalid multibulk length")
    if stranger and count > 10:
        raise Fault(b"unauthenticated multibulk length")
    args: list[bytes] = []
    while len(args) < count:
        if at >= len(stream):
            raise Incomplete
        kind = stream[at : at + 1]
        line, behind = _line(stream, at + (kind == b"$"), b"bulk")
        if kind != b"$":
            raise Fault(b"expected '$', got '%b'" % (b" " if kind in (b"\r", b"\n") else kind))
        size = _integer(line)
        if size is None or not 0 <= size <= bulk_bytes_max:
            raise Fault(b"invalid bulk length")
        if stranger and size > 16384:
            raise Fault(b"unauthenticated bulk length")
        if len(stream) < behind + size + 2:
            raise Incomplete
        args.append(stream[behind : behind + size])
        at = behind + size + 2
    return args, at


def _inline(stream: bytes) -> tuple[list[bytes], int]:
    end = stream.find(b"\n")
    if end < 0:
        if len(stream) > INLINE_BYTES_MAX:
            raise Fault(b"too big inline request")
        raise Incomplete
    words = split(stream[:end].removesuffix(b"\r"))
    first = words[0].lower() if words else b""
    if first in (b"post", b"host:"):
        raise Fault(b"")
    if len(words) == 3 and len(words[2]) == 8 and words[2][:7].upper() == b"HTTP/1.":
        raise Fault(b"")
    return words, end + 1


def split(line: bytes) -> list[bytes]:
    """Split a line into words that may be quoted; a binary zero ends it.

    Raises: Fault, quotes that are not closed, or closed in the middle of a word.
    """
    line = line.split(b"\0", 1)[0]
    words: list[bytes] = []
    at = 0
    while True:
        while line[at : at + 1] and line[at] in _BLANKS:
            at += 1
        if at == len(line):
            return words
        word, at = _word(line, at)
        words.append(word)


def _word(line: bytes, at: int) -> tuple[bytes, int]:
    word = b""
    while at < len(line) and line[at] not in b" \n\r\t":
        quote = line[at : at + 1]
        at += 1
        if quote not in (b'"', b"'"):
            word += quote
            continue
        while line[at : at + 1] != quote:
            if at >= len(line):
                raise Fault(b"unbalanced quotes in request")
            more, at = _quoted(line, at, quote)
            word += more
        at += 1
        if at < len(line) and line[at] not in _BLANKS:
            raise Fault(b"unbalanced quotes in request")
        break
    return word, at


def _quoted(line: bytes, at: int, quote: bytes) -> tuple[bytes, int]:
    byte, following = line[at : at + 1], line[at + 1 : at + 2]
    if byte != b"\\" or not following:
        return byte, at + 1
    if quote == b"'":
        return (b"'", at + 2) if following == b"'" else (byte, at + 1)
    digits = line[at + 2 : at + 4]
    if (
        following == b"x"
        and len(digits) == 2
        and all(d in b"0123456789abcdefABCDEF" for d in digits)
    ):
        return bytes([int(digits, 16)]), at + 4
    return _ESCAPES.get(following, following), at + 2
