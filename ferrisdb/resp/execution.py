"""Run data commands in transactions until one commits, without waiting anywhere.

E1  A command reads one moment and writes in private; its commit goes off by `server.submit`, and
    its reply goes out when that is answered. Conflicts are run again from the start.
E2  A control command within EXEC runs once: its reply is kept for the next attempt. If it is
    deferred, the attempt is given up and made anew once it is there.
E3  A pin is held while a commit is under way, and an attached process has a bounded number of
    them: `Turns` bounds the attempts in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrisdb.errors import Error, SnapshotTooOldError, UnavailableError
from ferrisdb.resp.call import Call
from ferrisdb.resp.command import Command, CommandError, Deferred
from ferrisdb.resp.failures import RERUN, failure_of, failure_of_status
from ferrisdb.resp.replies import NULL_ARRAY, Failure, Reply
from ferrisdb.resp.rereading import reread
from ferrisdb.transaction import CommitRequest, Transaction

if TYPE_CHECKING:
    from ferrisdb.resp.session import Session
    from ferrisdb.resp.watch import Watch


def read(session: Session, command: Command, args: list[bytes]) -> Reply:
    """Run a command that only reads; returns its reply.

    Raises:  CommandError; one of our errors.
    """

    def attempt() -> Reply:
        tx = Transaction(session.service.space, session.durability, "serializable", True)
        try:
            reply: Reply = command.handler(Call(command.name, args, session, tx))
            return reply
        finally:
            tx.rollback()

    return reread(attempt)


class Execution(Deferred):
    """What is committed together, from its first attempt to its reply."""

    __slots__ = (
        "_deadline_ns", "_is_under_way", "_outcome", "_request", "_session", "_tx", "durability",
        "line",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._tx: Transaction | None = None
        self._request: CommitRequest | None = None
        #: The reply, if the commit succeeds.
        self._outcome: Reply = None
        self._deadline_ns = 0
        self._is_under_way = False
        #: Of its commits.
        self.durability = session.durability
        #: The key for which it stands in a line of `Turns`.
        self.line: bytes | None = None

    def start(self) -> Deferred:
        """Make the first attempt as soon as there is room for it."""
        self._session.service.turns.admit(self)
        return self

    def attempt(self) -> None:
        """Run all of it in a new transaction and have that committed."""
        session = self._session
        service = session.service
        self._is_under_way = True
        try:
            self._tx = tx = Transaction(service.space, self.durability, "serializable", False)
            outcome = self._run(tx)
            if outcome is SUSPENDED:
                self._release()
                return
            if not tx.has_writes:
                self._end(outcome)
                return
            self._outcome = outcome
            self._request = request = tx.request()
            service.server.submit(
                self,
                request.batch,
                request.durability,
                request.generation,
                request.snapshot_seq,
                request.checks.encoded,
                request.checks.expiry_us,
            )
        except SnapshotTooOldError as error:
            self._again(error, None)
        except (CommandError, Error) as error:
            self._end(Failure(failure_of(error)))
        except Exception:
            # A fault of ours is the caller's to report; nobody shall wait for this in vain.
            self._end(Failure(b"ERR internal error"))
            raise

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Take the answer of the commit, in the loop's thread."""
        del applied, fits, result  # of atomic operations, which are not used here
        if status == 0:
            self._end(self._outcome)
        elif status in RERUN:
            assert self._request is not None
            parts = self._request.checks.parts
            key: bytes | None = None
            if seq < len(parts):
                part = parts[seq]
                key = part if isinstance(part, bytes) else part[0]
            self._again(None, key)
        else:
            self._end(Failure(failure_of_status(status)))

    def _again(self, error: Error | None, key: bytes | None) -> None:
        """Make another attempt: behind those that want the same key, if that is known."""
        service = self._session.service
        self._release()
        now_ns = service.clock.monotonic_ns()
        if not self._deadline_ns:
            self._deadline_ns = now_ns + service.timeout_ns
        if now_ns > self._deadline_ns:
            error = error or UnavailableError("others changed the same keys again and again")
            self._end(Failure(failure_of(error)))
        else:
            service.turns.again(self, key)

    def _end(self, reply: Reply) -> None:
        self._release()
        self._session.service.turns.leave(self)
        self.resolve(reply)

    def _release(self) -> None:
        tx, self._tx = self._tx, None
        if tx is not None:
            tx.rollback()
        self._request = None
        if self._is_under_way:
            self._is_under_way = False
            self._session.service.turns.landed()

    def _run(self, tx: Transaction) -> Reply:
        """Run the commands; returns the reply, or SUSPENDED."""
        raise NotImplementedError


class _Suspended:
    """What `_run` returns if the attempt is to be given up until a deferred reply is there."""


SUSPENDED = _Suspended()


class Single(Execution):
    """One data command that may write."""

    __slots__ = ("_args", "_command")

    def __init__(self, session: Session, command: Command, args: list[bytes]) -> None:
        super().__init__(session)
        self._command = command
        self._args = args

    def _run(self, tx: Transaction) -> Reply:
        command = self._command
        return command.handler(Call(command.name, self._args, self._session, tx))


class Exec(Execution):
    """The commands of one MULTI, executed together.

    Shape:   queue, each command with its request's words; watched, by key.
    """

    __slots__ = ("_kept", "_queue", "_watched")

    def __init__(
        self,
        session: Session,
        queue: list[tuple[Command, list[bytes]]],
        watched: dict[bytes, Watch],
    ) -> None:
        super().__init__(session)
        self._queue = queue
        self._watched = watched
        #: Replies of the control commands that have run (E2), by their place in the queue.
        self._kept: dict[int, Any] = {}

    def _run(self, tx: Transaction) -> Reply:
        if any(watch.has_changed(tx, key) for key, watch in self._watched.items()):
            return NULL_ARRAY
        replies: list[Reply] = []
        self._session.executing = len(self._queue)
        try:
            for place, (command, argv) in enumerate(self._queue):
                reply = self._kept.get(place, self)
                if reply is self:
                    reply = self._one(tx, place, command, argv)
                    if reply is SUSPENDED:
                        return SUSPENDED
                replies.append(reply)
            return replies
        finally:
            self._session.executing = -1

    def _one(self, tx: Transaction, place: int, command: Command, argv: list[bytes]) -> Reply:
        session = self._session
        if session.user is not None and (why := session.user.refusal(command, argv)) is not None:
            return Failure(
                b"NOPERM ACLs rules changed between the moment the transaction was accumulated and"
                b" the EXEC call. This command is no longer allowed for the following reason: "
                + why
            )
        args = argv[command.name_words :]
        if command.is_data:
            point = tx.savepoint() if command.is_write else None
            try:
                return command.handler(Call(command.name, args, session, tx))
            except SnapshotTooOldError:
                raise
            except (CommandError, Error) as error:
                if point is not None:
                    tx.rollback_to(point)
                return Failure(failure_of(error))
        try:
            reply = command.handler(session, args)
        except (CommandError, Error) as error:
            reply = Failure(failure_of(error))
        if isinstance(reply, Deferred):
            if not reply.is_resolved:
                reply.then(lambda later: self._resume(place, later))
                return SUSPENDED
            reply = reply.reply
        self._kept[place] = reply
        return reply

    def _resume(self, place: int, reply: Reply) -> None:
        self._kept[place] = reply
        self._session.service.turns.admit(self)
