"""What processes of the client tests do: `python -m tests.support.redis_child URL COUNT`.

Adds one to a key so many times by reading it under WATCH and writing it within MULTI, as Redis's
documentation teaches it; prints how often it lost to another.
"""

from __future__ import annotations

import sys
from typing import Any

import redis

KEY = "optimistic"


def increase(client: Any) -> int:
    """Add one; returns how often somebody was faster."""
    lost = 0
    with client.pipeline() as pipe:
        while True:
            try:
                pipe.watch(KEY)
                value = int(pipe.get(KEY) or 0)
                pipe.multi()
                pipe.set(KEY, value + 1)
                pipe.execute()
                return lost
            except redis.WatchError:
                lost += 1


def main() -> None:
    """Run what the command line asks for."""
    url, count = sys.argv[1], int(sys.argv[2])
    with redis.Redis.from_url(url) as client:
        print(sum(increase(client) for _ in range(count)))


if __name__ == "__main__":
    main()
