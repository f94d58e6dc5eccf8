"""A writer: a real handle that submits and looks for answers, but never waits."""

from __future__ import annotations

from dataclasses import dataclass

from ferrisdb.kernel import layout
from tests.sim.batches import Batch, Life
from tests.support.inline_handle import InlineDatabase

SYNC, OS = layout.DURABILITY_SYNC, layout.DURABILITY_OS


@dataclass(slots=True)
class Sent:
    """A batch that was submitted: `last_seq` and the rest are known once it is acknowledged."""

    batch: Batch
    durability: int
    client_id: bytes
    request_no: int
    #: The lowest request that its writer had not seen answered.
    unanswered_no: int
    #: Index of the next call of the file system at the submission.
    submitted_index: int
    last_seq: int = 0
    #: Simulated time and index of the next call of the file system at the acknowledgement.
    acknowledged_ns: int = 0
    call_index: int = 0


class Writer:
    """One life of one writer."""

    def __init__(self, path: str, life: Life) -> None:
        self.life = life
        self.submitted = 0
        self.unanswered: list[Sent] = []
        self.handle = InlineDatabase(path, durability="sync")
        registration = self.handle.attached._registration
        assert registration is not None
        self._registration = registration

    def submit(self, durability: int, call_index: int) -> Sent:
        """Submit the next batch."""
        self.submitted += 1
        batch = Batch(self.life, self.submitted)
        request_no = self.handle.attached.submit(batch.encode(), durability)
        unanswered_no = self.unanswered[0].request_no if self.unanswered else request_no
        client_id = self._registration.client_id
        sent = Sent(batch, durability, client_id, request_no, unanswered_no, call_index)
        self.unanswered.append(sent)
        return sent

    def answered(self) -> list[tuple[Sent, int, int]]:
        """Return (sent, status, last sequence) of what the coordinator has answered.

        Looks only: the coordinator is not told that the answers were seen (`poll` tells it).
        """
        found = []
        with self._registration.segment.view as view:
            for sent in self.unanswered:
                at = layout.COMPLETIONS_OFFSET + layout.COMPLETION_BYTES * (
                    sent.request_no % layout.COMPLETION_COUNT
                )
                if layout.load64(view, at + layout.COMPLETION_REQUEST_NO) == sent.request_no:
                    status = layout.load32(view, at + layout.COMPLETION_STATUS)
                    found.append((sent, status, layout.load64(view, at + layout.COMPLETION_SEQ)))
        return found

    def poll(self) -> None:
        """Take the answers that have come."""
        poll = self.handle.attached.poll
        self.unanswered = [s for s in self.unanswered if poll(s.request_no) is None]

    def rejoin(self) -> None:
        """Find the coordinator that runs now, and offer it what is unanswered."""
        self.handle.attached.check_service(self.handle.attached.deadline_ns())

    def close(self) -> None:
        """Detach; what is unanswered counts as taken up to here."""
        self.handle.close()

    def die(self) -> None:
        """Be gone as after SIGKILL: the kernel lets go of the lock, and nothing is tidied up."""
        file, self._registration._file = self._registration._file, None
        assert file is not None
        file.give_back_index(self._registration.index)
        file.drop()
        self.handle.close()
