"""Let `python -m ferrisdb.cli` do what `ferrisdb` does, where no script is installed."""

from __future__ import annotations

import sys

from ferrisdb.cli import main

if __name__ == "__main__":
    sys.exit(main())
