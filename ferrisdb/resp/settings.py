"""What of a worker's settings CONFIG SET can change; it begins as the service's options say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrisdb.options import Options

PARTIAL_NS = 300_000_000_000
"""How long a request may take to arrive."""


@dataclass(slots=True)
class Settings:
    """The settings that are in force in one worker. Owner: its loop."""

    connection_count_max: int
    connection_idle_s: float
    request_bytes_max: int
    output_bytes_max: int
    debug_commands: bool

    @classmethod
    def of(cls, options: Options) -> Settings:
        """Return what the options say."""
        return cls(
            options.connection_count_max,
            options.connection_idle_s,
            options.request_bytes_max,
            options.output_bytes_max,
            options.debug_commands,
        )

    def limits(self) -> dict[str, int]:
        """Return the bounds that the socket server keeps."""
        return {
            "connection_count_max": self.connection_count_max,
            "request_bytes_max": self.request_bytes_max,
            "output_bytes_max": self.output_bytes_max,
            "idle_ns": int(self.connection_idle_s * 1e9),
            "partial_ns": PARTIAL_NS,
        }
