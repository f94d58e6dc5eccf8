"""Send the same requests to a real redis-server and to another server; compare reply by reply.

Replies must be equal byte for byte, but for what differential_rules.py names. A failing run is
repeated with fewer and fewer requests, and what is left is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.differential_grammar import Request, Step, Unit, step, units
from tests.support.differential_rules import CLOCKS, EXPIRY_MS_MAX, LENIENT, shape
from tests.support.redis_programs import version_of_redis
from tests.support.resp_wire import Address, Node, Wire, encode
from tests.support.socket_servers import (
    PASSWORD,
    PEER,
    Served,
    ours_serving,
    peer_serving,
    running,
)

REDIS_VERSION = (7, 0)
VALUE_BYTES_MAX = 16 << 20
PEER_OPTIONS = ("--hz", "500", "--databases", "1", "--enable-debug-command", "no")
"""Removes what has expired at once, and has one key space, as FerrisDB does."""
REPLY_TIMEOUT_S = 10.0
SHRINK_S = 45.0
RAW_TIMEOUT_S = 0.5
RAW_TRIES = 5
"""A server that closes with bytes unread may have its last answer overtaken by the reset."""
SENTINEL = b"PING the-sentinel\r\n"
SENTINEL_REPLIES = (b"$12\r\nthe-sentinel\r\n", b"+the-sentinel\r\n")


class Side:
    """One server, and a connection for each number."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._wires: dict[int, Wire] = {}

    def wire(self, number: int) -> Wire:
        """Return the connection, made anew if it was closed."""
        if number not in self._wires:
            protocol = 3 if number == 1 else 2
            self._wires[number] = Wire(self.address, timeout_s=REPLY_TIMEOUT_S, protocol=protocol)
        return self._wires[number]

    def replies(self, step: Step) -> list[Node]:
        """Read a step's replies; what hinders that becomes the last one."""
        found: list[Node] = []
        try:
            while len(found) < step.reply_count:
                found += self.wire(step.connection).read_many(1)
        except (EOFError, ConnectionError):
            found.append(Node(b"?", "closed", b"(connection closed)"))
            self.drop(step.connection)
        except (TimeoutError, ValueError) as error:
            found.append(Node(b"?", "failed", f"({type(error).__name__}: {error})".encode()))
            self.drop(step.connection)
        return found

    def drop(self, number: int) -> None:
        """Close a connection."""
        wire = self._wires.pop(number, None)
        if wire is not None:
            wire.close()

    def begin(self) -> None:
        """Forget all keys and connections."""
        self.close()
        with Wire(self.address) as wire:
            wire.require("FLUSHALL")

    def close(self) -> None:
        """Close all connections."""
        for number in list(self._wires):
            self.drop(number)

    def all_keys(self, words: Request, reply: Node) -> list[bytes]:
        """Follow a SCAN from its first reply to its end; returns every key, sorted.

        Another connection follows it: a cursor is good on any.
        """
        keys: set[bytes] = set()
        with Wire(self.address) as wire:
            for _ in range(100_000):
                cursor, found = reply.plain()
                keys.update(found)
                if cursor == b"0":
                    return sorted(keys)
                wire.send(encode(words[0], cursor, *words[2:]))
                reply = wire.read()
        return [b"(a SCAN without end)"]

    def key_count(self) -> int:
        """Return DBSIZE, once what has expired is gone."""
        time.sleep(0.05)
        with Wire(self.address) as wire:
            return int(wire.require("DBSIZE"))

    def raw_answer(self, data: bytes, timeout_s: float) -> bytes:
        """Send bytes and a PING on a new connection; return the answers up to that PING's.

        A server that waits for more answers nothing: then the answer ends in "(waits)".
        """
        nobody = replace(self.address, password="")
        with Wire(nobody, timeout_s=timeout_s) as wire:
            answer = b""
            try:
                wire.send(data + SENTINEL)
                while not answer.endswith(SENTINEL_REPLIES):
                    more = wire.socket.recv(1 << 16)
                    if not more:
                        return answer + b"(closed)"
                    answer += more
            except TimeoutError:
                return answer + b"(waits)"
            except ConnectionError:
                return answer + b"(closed)"
            return answer


@dataclass(frozen=True, slots=True)
class Difference:
    """Two replies that should be one."""

    request: Request
    ours: bytes
    theirs: bytes
    step: Step

    def __str__(self) -> str:
        return (
            f"connection {self.step.connection}: {shown(self.request)}\n"
            f"  redis:    {_cut(self.theirs)}\n  ferrisdb: {_cut(self.ours)}"
        )


def _cut(data: bytes) -> str:
    return repr(data) if len(data) < 600 else f"{data[:600]!r}... ({len(data)} bytes)"


def shown(words: Request) -> str:
    """Return a request as a line of a redis-cli session, nearly."""
    return " ".join(_cut(word)[1:] for word in words)


class Pair:
    """A redis-server and the server that has to be like it."""

    def __init__(self, ours: Address, theirs: Address) -> None:
        self.sides = (Side(ours), Side(theirs))
        self.request_count = 0
        self._queued: dict[int, list[Request]] = {}
        self._slack_ms = 50.0
        self._is_alone = False

    def begin(self) -> None:
        """Have both servers empty, without connections of ours."""
        self._queued.clear()
        for side in self.sides:
            side.begin()

    def close(self) -> None:
        """Close all connections."""
        for side in self.sides:
            side.close()

    def run(self, scene: Unit) -> Difference | None:
        """Run one unit on both; returns the first difference."""
        for one in scene:
            found = self._raw(one) if one.raw else self._step(one)
            if found is not None:
                return found
        return None

    def _raw(self, one: Step) -> Difference | None:
        self.request_count += 1
        return self.compare_raw(one.raw, RAW_TIMEOUT_S)

    def compare_raw(self, data: bytes, timeout_s: float) -> Difference | None:
        """Send bytes to both, each on a connection of their own, and compare all answers."""
        for _ in range(RAW_TRIES):
            ours, theirs = (side.raw_answer(data, timeout_s) for side in self.sides)
            if ours == theirs:
                return None
        return Difference((data,), ours, theirs, Step(-1, raw=data))

    def _step(self, one: Step) -> Difference | None:
        begin = time.monotonic()
        self._is_alone = len(one.requests) == 1
        data = one.encoded()
        for side in self.sides:
            try:
                side.wire(one.connection).send(data)
            except ConnectionError:
                pass  # as reading will tell
        ours, theirs = (side.replies(one) for side in self.sides)
        self.request_count += len(one.requests)
        self._slack_ms = max(self._slack_ms, (time.monotonic() - begin) * 2e3 + 50)
        if one.pause_s:
            time.sleep(one.pause_s)
        answered = one.requests[len(one.requests) - one.reply_count :]
        for words, mine, other in zip(answered, ours, theirs, strict=False):
            if not self._same_reply(one.connection, words, mine, other):
                return Difference(words, mine.raw, other.raw, one)
            if mine.kind == b"?":
                self._queued.pop(one.connection, None)
        if len(ours) != len(theirs):
            return Difference((b"(all)",), b"%d replies" % len(ours), b"%d" % len(theirs), one)
        return None

    def _same_reply(self, connection: int, words: Request, ours: Node, theirs: Node) -> bool:
        name = words[0].upper()
        queued = self._queued.setdefault(connection, [])
        if theirs.raw == b"+QUEUED\r\n":
            queued.append(words)
            return ours.raw == theirs.raw
        inner = list(queued)
        if name in (b"EXEC", b"DISCARD", b"RESET", b"QUIT") and len(words) == 1:
            queued.clear()
        if ours.raw == theirs.raw and name != b"SCAN":
            return True
        if name == b"EXEC" and shape(ours) == shape(theirs) and ours.value is not None:
            parts = zip(inner, ours.value, theirs.value, strict=True)
            return all(self._same(words, mine, other) for words, mine, other in parts)
        if name == b"SCAN" and self._is_alone and words[1:2] == (b"0",) and theirs.kind == b"*":
            if ours.kind != b"*":
                return False
            sides = zip(self.sides, (ours, theirs), strict=True)
            one, other = (side.all_keys(words, node) for side, node in sides)
            return one == other
        if name == b"DBSIZE" and self._is_alone and theirs.kind == ours.kind == b":":
            counts = {side.key_count() for side in self.sides}
            return len(counts) == 1
        return self._same(words, ours, theirs)

    def _same(self, words: Request, ours: Node, theirs: Node) -> bool:
        if ours.raw == theirs.raw:
            return True
        if ours.is_error or theirs.is_error:
            return False
        if b"?" in (ours.kind, theirs.kind):
            return False
        name = words[0].upper()
        if name in CLOCKS:
            latest_ms = EXPIRY_MS_MAX - (0 if b"TIME" in name else time.time_ns() // 1_000_000)
            one, other = (min(n.plain(), latest_ms // CLOCKS[name]) for n in (ours, theirs))
            slack = self._slack_ms / CLOCKS[name] + 1
            return bool(min(one, other) >= 0 and abs(one - other) <= slack)
        lenient = LENIENT.get(b" ".join(words[:2]).upper()) or LENIENT.get(name)
        return lenient is not None and lenient(ours, theirs)


@contextmanager
def pair_serving(folder: Path) -> Iterator[Pair]:
    """Run both servers. FERRISDB_TEST_PEER=redis has two of Redis's, which are like each other."""
    with ExitStack() as running:
        theirs = running.enter_context(_peer(folder / "redis")).unix
        if os.environ.get(PEER) == "redis":
            ours = running.enter_context(_peer(folder / "other")).unix
        else:
            served = ours_serving(
                folder / "ours", over_tcp=False, request_bytes_max=VALUE_BYTES_MAX
            )
            ours = running.enter_context(served).unix
        pair = Pair(ours, theirs)
        running.callback(pair.close)
        yield pair


@contextmanager
def pair_with_passwords(folder: Path) -> Iterator[Pair]:
    """Run both servers, for connections over TCP that are nobody's yet."""
    with running(folder / "ours", peer_options=PEER_OPTIONS) as ours:
        with peer_serving(folder / "redis", *PEER_OPTIONS, password=PASSWORD) as theirs:
            _check_version()
            yield Pair(ours.tcp, theirs.tcp)


@contextmanager
def _peer(folder: Path) -> Iterator[Served]:
    _check_version()
    options = [*PEER_OPTIONS, "--proto-max-bulk-len", str(VALUE_BYTES_MAX)]
    with peer_serving(folder, *options, password="") as served:
        yield served


def _check_version() -> None:
    if version_of_redis() != REDIS_VERSION:
        pytest.skip(f"the texts are those of Redis {REDIS_VERSION}, here is {version_of_redis()}")


def compare(pair: Pair, seed: int, request_count: int, say: Callable[[str], None]) -> None:
    """Compare so many requests.

    Raises: AssertionError, with the shortest sequence found that shows the difference.
    """
    say(f"differential: seed {seed}, {request_count} requests")
    pair.begin()
    pair.request_count = 0
    done: list[Unit] = []
    for scene in units(seed):
        done.append(scene)
        found = pair.run(scene)
        if found is not None:
            count = pair.request_count
            done = shrink(pair, done)
            raise AssertionError(f"seed {seed}, after {count}:\n{found}\n{_story(pair, done)}")
        if pair.request_count >= request_count:
            return


def survey(pair: Pair, seed: int, request_count: int) -> Iterator[Difference]:
    """Yield every difference; after each, both servers begin anew."""
    pair.begin()
    pair.request_count = 0
    for scene in units(seed):
        found = pair.run(scene)
        if found is not None:
            yield found
            pair.begin()
        if pair.request_count >= request_count:
            return


def _story(pair: Pair, scenes: list[Unit]) -> str:
    pair.begin()
    lines = ["shortest sequence:"]
    last: Difference | None = None
    for scene in scenes:
        for one in scene:
            if one.raw:
                lines.append(f"  raw  {_cut(one.raw)}")
            lines += [f"  {one.connection}  {shown(words)}" for words in one.requests]
            if one.pause_s:
                lines.append(f"  (pause of {one.pause_s} s)")
        last = pair.run(scene)
    lines.append(str(last) if last else "(which does not show it every time)")
    return "\n".join(lines)


def shrink(pair: Pair, scenes: list[Unit]) -> list[Unit]:
    """Return fewer scenes, with fewer requests, that differ too."""
    give_up = time.monotonic() + SHRINK_S

    def differs(some: Iterable[Unit]) -> bool:
        if time.monotonic() > give_up:
            return False
        pair.begin()
        return any(pair.run(scene) is not None for scene in some)

    length = 1
    while length < len(scenes) and not differs(scenes[-length:]):
        length *= 4
    scenes = scenes[-length:]
    size = len(scenes) // 2
    while size > 0:
        at = 0
        while at < len(scenes):
            fewer = scenes[:at] + scenes[at + size :]
            if fewer and differs(fewer):
                scenes = fewer
            else:
                at += size
        size //= 2
    flat: list[Unit] = [
        (smaller,) for scene in scenes for one in scene for smaller in _single_steps(one)
    ]
    if len(flat) > len(scenes) and differs(flat):
        return shrink_flat(flat, differs)
    return scenes


def shrink_flat(scenes: list[Unit], differs: Callable[[list[Unit]], bool]) -> list[Unit]:
    """Drop single requests for as long as the rest differs."""
    at = 0
    while at < len(scenes):
        fewer = scenes[:at] + scenes[at + 1 :]
        if fewer and differs(fewer):
            scenes = fewer
        else:
            at += 1
    return scenes


def _single_steps(one: Step) -> list[Step]:
    if one.raw or one.reply_count != len(one.requests) or not one.requests:
        return [one]
    parts = [step(one.connection, words) for words in one.requests]
    return [*parts[:-1], step(one.connection, one.requests[-1], pause_s=one.pause_s)]
