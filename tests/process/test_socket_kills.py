"""Goal: a killed worker or coordinator costs connections, and nothing that was acknowledged.

Method: many clients over both kinds of socket keep ledgers (tests/support/socket_ledger.py) while
SIGKILL takes workers and, under a supervisor that starts it again, the coordinator. scripts/soak
has the long form.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.soak import seed_of_run
from tests.support.socket_ledger import besiege

KILLS = 3
"""The last is the coordinator."""


def test_acknowledged_writes_outlive_workers_and_coordinators(tmp_path: Path) -> None:
    besiege(tmp_path, KILLS, seed_of_run(), print)
