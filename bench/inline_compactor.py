"""The real compactor's jobs, done in the coordinator's process when the schedule says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ferrisdb.seams import Clock, FileSystem, Rng
from ferrisdb.workers.children import Died, Inbox
from ferrisdb.workers.compactor import Compactor
from ferrisdb.workers.messages import Answer, CompactorOptions, Request


class _Pipe:
    def __init__(self, inbox: Inbox, ring: Callable[[], None]) -> None:
        self.requests: deque[Request] = deque()
        self._inbox = inbox
        self._ring = ring

    def send(self, message: Answer, /) -> None:
        self._inbox.put(message)
        self._ring()

    def recv(self) -> Request:
        return self.requests.popleft()

    def poll(self, timeout: float = 0.0, /) -> bool:
        del timeout
        return bool(self.requests)


class InlineCompactor:
    """A compactor as the coordinator sees it; it works only in `work`."""

    def __init__(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
        *,
        fs: FileSystem,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._inbox, self._ring = inbox, ring
        self._pipe = _Pipe(inbox, ring)
        self._jobs: Compactor | None = Compactor(
            directory, self._pipe, options, generation, fs=fs, clock=clock, rng=rng
        )

    @property
    def has_work(self) -> bool:
        """Whether `work` would do something."""
        jobs = self._jobs
        return jobs is not None and (bool(self._pipe.requests) or jobs.has_flushes)

    @property
    def has_requests(self) -> bool:
        """Whether `work` would take a request: it goes before a flush."""
        return self._jobs is not None and bool(self._pipe.requests)

    @property
    def has_compactions(self) -> bool:
        """Whether `work` would do a compaction, if nothing goes before it."""
        return self._jobs is not None and self._jobs.has_compactions

    def work(self) -> None:
        """Take one request, or do one flush or compaction; there must be some."""
        assert self._jobs is not None
        self._jobs.step()

    def die(self) -> None:
        """Be gone as after SIGKILL; the coordinator is told."""
        self._close()
        self._inbox.put(Died())
        self._ring()

    def _close(self) -> None:
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.close()

    # CompactorPort

    def send(self, request: Request) -> None:
        """Take a request, for `work`."""
        self._pipe.requests.append(request)

    def stop(self, timeout_s: float) -> None:
        """Leave."""
        del timeout_s
        self._close()

    def bury(self) -> int | None:
        """Return the exit code of one that was killed."""
        return -9
