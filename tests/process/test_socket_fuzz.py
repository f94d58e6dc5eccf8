"""Goal: what no client should send hurts nobody: no worker dies, memory stays bounded.

Method: mutations of valid streams, false lengths, garbage, HTTP, half requests held open, answers
never read; beside them a client that must be served rightly and soon. scripts/soak has the long
form.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.resp_wire import Wire
from tests.support.soak import seed_of_run
from tests.support.socket_fuzz import HTTP, PEER_OPTIONS, SETTINGS, fuzz
from tests.support.socket_servers import Served, running

ROUNDS = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    with running(folder, peer_options=PEER_OPTIONS, **SETTINGS) as served:
        yield served


def test_garbage_hurts_nobody(server: Served) -> None:
    fuzz(server, seed_of_run(), ROUNDS, print)


@pytest.mark.parametrize("data", HTTP[:2], ids=["get", "post"])
def test_an_http_request_is_not_answered_and_runs_nothing(server: Served, data: bytes) -> None:
    with Wire(server.unix) as wire:
        wire.send(data)
        with pytest.raises((EOFError, ConnectionError)):
            wire.read()
    with Wire(server.unix) as wire:
        assert wire.call("EXISTS", "stolen") == 0
