"""One real service for the tests of the protocol's commands; its database is empty for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from tests.support import databases
from tests.support.resp_rig import Client, Rig


@pytest.fixture(scope="package")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("resp")
    with databases.prepared(directory):
        yield directory


@pytest.fixture
def db(path: Path) -> Iterator[ferrisdb.Database]:
    with databases.emptied(path) as handle:
        yield handle


@pytest.fixture
def rig(db: ferrisdb.Database) -> Rig:
    return Rig(db)


@pytest.fixture
def client(rig: Rig) -> Client:
    return rig.client()
