"""Seen: a segmentation fault while garbage was collected, behind a test that had failed.

Cause: a transaction and its handle were in one cycle of references. The collector cleared the
handle first, which let go of its maps; the transaction's pin, freed behind it, looked there whether
its slot was still to be released.
Remedy: the handle holds that page by a buffer of its own, which goes with the handle itself.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import ferrisdb
from tests.support import databases


class Cycle:
    """Refers to itself."""

    def __init__(self, *things: Any) -> None:
        self.things = (self, *things)


@pytest.mark.parametrize("closes", [True, False])
def test_a_transaction_is_collected_with_its_handle(tmp_path: Path, closes: bool) -> None:
    with databases.opened(tmp_path / "db"):
        db = ferrisdb.open(tmp_path / "db", start=False)
        tx = db.transaction()
        tx.get(b"k")
        db.attached.__dict__["cycle"] = Cycle(tx, db)
        if closes:
            db.close()
        del tx, db
        gc.collect()
