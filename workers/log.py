"""Set up the log that the processes of a service share: their standard error."""

from __future__ import annotations

import logging
import sys


def configure_log(level: str) -> None:
    """Log what is at or above the level (options.LOG_LEVELS); may be called again."""
    logger = logging.getLogger("ferrisdb")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s pid=%(process)d %(name)s: %(message)s")
        )
        logger.addHandler(handler)
        logger.propagate = False
