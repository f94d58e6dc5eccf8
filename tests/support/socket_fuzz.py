"""Throw what is no RESP, or hardly, at a server, while a well-behaved client uses it.

An `Attack` is a number of rounds. In each, connections by the dozen send what `streams` makes and
do what badly written or ill-willed clients do: never read, never finish, leave in the middle.
Afterwards the same workers must be there, with bounded memory, and the client beside them must
have had right answers, soon.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.differential_grammar import Request, request
from tests.support.idle import private_bytes
from tests.support.resp_wire import Address, Wire, encode
from tests.support.socket_servers import Served

CONNECTIONS = 24
"""As many in each round."""
HELD_OPEN_MAX = 100
READ_S = 0.02

OUTPUT_BYTES_MAX = 2 << 20
SETTINGS: dict[str, Any] = {
    "output_bytes_max": OUTPUT_BYTES_MAX,
    "request_bytes_max": 1 << 20,
}
"""Of the server to attack: limits that are worth running into."""
PEER_OPTIONS = (
    "--client-output-buffer-limit", "normal", str(OUTPUT_BYTES_MAX), str(OUTPUT_BYTES_MAX), "0",
)  # fmt: skip
GROWTH_BYTES_MAX = 256 << 20
"""What the workers may need more than before, in all: 100 connections that are held open have up
to 2 MiB of answers each; the rest is for requests, and the allocator's."""
LATENCY_S_MAX = 0.25
"""What 19 of 20 answers to the client beside must not take longer than."""

FORBIDDEN = {
    # What would trouble the client beside it by right: it is no attack to be told to do so.
    b"SHUTDOWN", b"CLIENT", b"CONFIG", b"FLUSHALL", b"FLUSHDB", b"DEBUG", b"WAIT",
}  # fmt: skip

NUMBERS = [
    b"-1", b"-2", b"0", b"-0", b"00", b"1e3", b"", b" ", b"\x00", b"2147483647", b"2147483648",
    b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616", b"99999999999999999999999999", b"1048576", b"1048577", b"536870912",
    b"16777217", b"1024", b"65536", b"-2147483648", b"-9223372036854775808", b"1" * 70,
]  # fmt: skip

HTTP = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: localhost:6379\r\nContent-Length: 20\r\n\r\nSET stolen 1\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]

LINES = [
    b"\r\n" * 1000, b"\n" * 1000, b"\r" * 1000, b" " * 70_000 + b"\r\n", b"*1\r\n" * 1000,
    b"*0\r\n" * 1000, b"*-1\r\n" * 1000, b"*2\r\n*2\r\n*2\r\n" * 100, b"$-1\r\n" * 500,
    b"*3\r\n$3\r\nSET\r\n", b"*100000\r\n" + b"$1\r\nx\r\n" * 500, b"*1\r\n$16777216\r\nabc",
    b"*1048576\r\n", b"*1000000\r\n$1\r\nx\r\n", b"'" * 10_000 + b"\r\n", b'"\\x' * 1000 + b"\r\n",
    b"*1\r\n$4\r\nPI", b"*", b"$", b"*1", b"*1\r", b"*1\r\n", b"*1\r\n$", b"*1\r\n$4",
    b"\x00" * 5000,
    b"*1\r\n$1000000\r\n" + b"x" * 100_000, b"SET k " + b"v" * 60_000, b"%3\r\n+a\r\n:1\r\n",
    b"MULTI\r\n" + b"SET fuzz:m v\r\n" * 2000, b"WATCH a b c d e\r\n" * 500,
]  # fmt: skip


def _requests(rng: random.Random) -> list[Request]:
    found: list[Request] = []
    while len(found) < rng.randint(1, 30):
        words = request(rng)
        if words[0].upper() not in FORBIDDEN:
            found.append(words)
    return found


def valid_stream(rng: random.Random) -> bytes:
    """Return requests that are RESP, at least."""
    return b"".join(encode(*words) for words in _requests(rng))


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed) + 1)
        way = rng.randrange(6)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at:at] = rng.randbytes(rng.choice([1, 2, 7, 300]))
        elif way == 2:
            del changed[at : at + rng.choice([1, 1, 2, 50])]
        elif way == 3:
            changed[at:at] = changed[at : at + rng.randint(0, 200)]
        else:
            _with_another_number(rng, changed)
    return bytes(changed)


def _with_another_number(rng: random.Random, data: bytearray) -> None:
    """Put another length in the place of one."""
    places = [at for at in range(len(data)) if data[at] in b"*$"]
    if places:
        at = rng.choice(places) + 1
        end = data.find(b"\r\n", at)
        data[at : max(end, at)] = rng.choice(NUMBERS)


def stream(rng: random.Random) -> bytes:
    """Return what one connection sends."""
    chance = rng.random()
    if chance < 0.55:
        return _mutated(rng, valid_stream(rng))
    if chance < 0.65:
        data = valid_stream(rng)
        return data[: rng.randrange(len(data))]
    if chance < 0.75:
        return rng.randbytes(rng.choice([1, 10, 1000, 30_000]))
    if chance < 0.95:
        return rng.choice(LINES)
    return rng.choice(HTTP)


class Beside:
    """A client that does nothing wrong, in a thread; notes how long its answers took."""

    def __init__(self, address: Address) -> None:
        self.latencies_s: list[float] = []
        self.faults: list[str] = []
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            with Wire(self._address, timeout_s=30) as wire:
                number = 0
                while not self._stop.is_set():
                    number += 1
                    self._once(wire, number)
                    self._stop.wait(0.002)
        except (OSError, EOFError, ValueError) as error:
            self.faults.append(repr(error))

    def _once(self, wire: Wire, number: int) -> None:
        value = b"%d" % number
        begin = time.perf_counter()
        found = [
            wire.call("SET", "beside:k", value),
            wire.call("GET", "beside:k"),
            wire.call("INCRBY", "beside:n", 1),
            *wire.pipeline(("MGET", "beside:k", "beside:absent"), ("STRLEN", "beside:k")),
        ]
        self.latencies_s.append((time.perf_counter() - begin) / 4)
        first = found[2] if number == 1 else self._first + number - 1
        self._first = first if number == 1 else self._first
        if found != [b"OK", value, first, [value, None], len(value)]:
            self.faults.append(f"{number}: {found}")

    _first = 0


class Attack:
    """Rounds of bad connections against one server.

    Shape:  addresses, where to send to.
    """

    def __init__(self, addresses: list[Address], seed: int) -> None:
        self._addresses = addresses
        self._rng = random.Random(seed)
        self._held: list[socket.socket] = []
        self.connection_count = 0

    def round(self) -> None:
        """Open connections, send, and do with them what one shouldn't."""
        for _ in range(CONNECTIONS):
            self._connection()
        while len(self._held) > HELD_OPEN_MAX:
            self._held.pop(self._rng.randrange(len(self._held))).close()

    def _connection(self) -> None:
        address = self._rng.choice(self._addresses)
        self.connection_count += 1
        made = address.connect(5.0)
        with suppress(OSError):
            if address.password and self._rng.random() < 0.7:
                made.sendall(encode("AUTH", address.user, address.password))
            data = stream(self._rng)
            made.settimeout(0.2)
            for part in self._parts(data):
                made.sendall(part)
            self._misbehave(made)
            return
        made.close()

    def _parts(self, data: bytes) -> list[bytes]:
        if self._rng.random() < 0.6 or len(data) < 2:
            return [data]
        if self._rng.random() < 0.3:
            return [data[at : at + 1] for at in range(min(len(data), 300))]
        cut = self._rng.randrange(1, len(data))
        return [data[:cut], data[cut:]]

    def _misbehave(self, made: socket.socket) -> None:
        way = self._rng.random()
        if way < 0.3:
            self._held.append(made)  # half a request, held open
        elif way < 0.4:
            self._flood(made)
            self._held.append(made)
        elif way < 0.5:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            made.close()  # a reset, over TCP
        elif way < 0.6:
            made.shutdown(socket.SHUT_WR)
            self._held.append(made)
        else:
            made.settimeout(READ_S)
            with suppress(OSError):
                while made.recv(1 << 16):
                    pass
            made.close()

    def _flood(self, made: socket.socket) -> None:
        """Ask for more than is ever read."""
        ask = encode("SET", "fuzz:large", b"x" * 50_000) + encode("GET", "fuzz:large") * 200
        with suppress(OSError):
            made.settimeout(0.05)
            for _ in range(4):
                made.sendall(ask)

    def leave(self) -> None:
        """Close what is held open."""
        for made in self._held:
            made.close()
        self._held.clear()


def fuzz(served: Served, seed: int, round_count: int, say: Callable[[str], None]) -> None:
    """Attack a server that has SETTINGS; see that it stays as it was.

    Raises: AssertionError.
    """
    say(f"socket fuzz: seed {seed}, {round_count} rounds")
    workers = served.workers()
    assert workers
    before = private_bytes(workers)
    most = 0
    attack = Attack([served.unix, served.tcp], seed)
    try:
        with Beside(served.unix) as beside:
            for number in range(round_count):
                attack.round()
                if number % 10 == 9 or number == round_count - 1:
                    most = max(most, private_bytes(workers) - before)
                    assert most < GROWTH_BYTES_MAX, f"seed {seed}: {most} bytes, round {number}"
                assert all(worker.is_running() for worker in workers), f"seed {seed}: one died"
                assert not beside.faults, f"seed {seed}: {beside.faults[:3]}"
    finally:
        attack.leave()
    after = private_bytes(workers) - before
    latencies = sorted(beside.latencies_s)
    high, highest = latencies[len(latencies) * 19 // 20], latencies[-1]
    say(
        f"{attack.connection_count} connections, {len(latencies)} times the client beside: median "
        f"{latencies[len(latencies) // 2] * 1e3:.2f} ms, 95 % {high * 1e3:.2f} ms, at most "
        f"{highest * 1e3:.1f} ms; memory grew by at most {most >> 10} KiB, {after >> 10} in the end"
    )
    assert [worker.pid for worker in workers] == [worker.pid for worker in served.workers()]
    assert not beside.faults, f"seed {seed}: {beside.faults[:3]}"
    assert high < LATENCY_S_MAX, f"seed {seed}: 5 % of the answers took over {high} s"
