"""Let `python -m bench` do what `ferrisdb bench` does, in a clone and where it is installed."""

from __future__ import annotations

import sys

from ferrisdb.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
