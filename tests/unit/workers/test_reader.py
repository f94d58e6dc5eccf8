"""What a reader worker and those who look at it must agree on."""

from __future__ import annotations

import resource

from ferrisdb.kernel.server import METRICS
from ferrisdb.shm.client import METRIC_CONNECTIONS_NOW, METRIC_READER
from ferrisdb.workers.reader import raise_descriptor_limit


def test_the_count_of_connections_stands_where_the_kernel_puts_it() -> None:
    assert METRICS["connections_now"] == METRIC_CONNECTIONS_NOW
    assert METRIC_READER not in METRICS.values()


def test_the_limit_of_descriptors_is_raised_as_far_as_allowed() -> None:
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        raise_descriptor_limit(soft - 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        raise_descriptor_limit(1 << 40)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
