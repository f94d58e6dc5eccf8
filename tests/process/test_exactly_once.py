"""Goal: what was acknowledged happened once, what was refused did not, whoever is killed.

Method: eight processes count what they are told while processes of the service, and in one test
their own, are killed; then the counts are compared with what is stored, and invariants that any
lost, doubled or torn transaction would break are looked at. scripts/soak runs more of it.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import contenders, crowd

COUNT = 300
SEED = 12


def test_transfers_keep_the_total_and_are_applied_as_often_as_told(tmp_path: Path) -> None:
    kills = crowd.check_invariant(tmp_path / "db", contenders.transfers, COUNT, SEED, kills=3)
    assert "client" not in kills or kills["client"] == 0


def test_a_killed_client_hides_at_most_what_it_had_in_flight(tmp_path: Path) -> None:
    kills = crowd.check_invariant(
        tmp_path / "db", contenders.transfers, COUNT, SEED, kills=1, client_kills=4
    )
    assert kills["client"] > 0


def test_a_ring_stays_one_ring(tmp_path: Path) -> None:
    crowd.check_invariant(tmp_path / "db", contenders.relinks, COUNT, SEED, kills=3)


def test_every_addition_counts_once(tmp_path: Path) -> None:
    crowd.check_sum(tmp_path / "db", contenders.adds, 4 * COUNT, SEED, kills=3)


def test_every_increment_by_reading_and_writing_counts_once(tmp_path: Path) -> None:
    crowd.check_sum(tmp_path / "db", contenders.increments, COUNT, SEED, kills=3)
