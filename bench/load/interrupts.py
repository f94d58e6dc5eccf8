"""Hold Ctrl-C and SIGTERM back while something is under way that must not be cut in the middle."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self


class Interrupts:
    """Within `with`, both signals raise KeyboardInterrupt, or wait: see `held`.

    Owner:  the main thread.
    """

    def __init__(self) -> None:
        #: While True, the first signal is only noted; the second one raises all the same.
        self.held = False
        self.came = False

    def __enter__(self) -> Self:
        self._former = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.held and not self.came:
            self.came = True
            return
        raise KeyboardInterrupt
