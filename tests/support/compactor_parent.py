"""Be the coordinator of one compactor, and nothing else, until stdin ends or a signal comes.

Run as `python -m tests.support.compactor_parent DIRECTORY GENERATION`; says the compactor's
process id when it has answered its first request.
"""

from __future__ import annotations

import os
import sys

import multiprocess

from ferrisdb.workers import compactor
from ferrisdb.workers.messages import CompactorOptions, FlushMemtable


def main(directory: str, generation: str) -> None:
    """Start the compactor, wait for a sign of life, say its process id, wait."""
    context = multiprocess.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (directory, theirs, CompactorOptions(), int(generation), os.getpid())
    child = context.Process(target=compactor.main, args=arguments)
    child.start()
    theirs.close()
    ours.send(FlushMemtable(1, 2, 0))
    ours.recv()
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
