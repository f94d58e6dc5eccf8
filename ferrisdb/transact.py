"""Run a function in transactions until one of them commits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ferrisdb.backoff import Backoff
from ferrisdb.errors import ConflictError, SnapshotTooOldError, UsageError, WrongTypeError
from ferrisdb.transaction import Transaction, TransactionWriter

if TYPE_CHECKING:
    from ferrisdb.attached import Attached
    from ferrisdb.kernel.space import Space

LATE_US = 50
BLIND_EVERY = 8
"""Of so many attempts one does not ask for a turn but waits, should turns not help."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def run(
    space: Space,
    fn: Callable[[Transaction], T],
    attempts: int | None,
    timeout: float | None,
    isolation: str,
    durability: str | None,
) -> T:
    """Do what `Keyspace.transact` says."""
    attached = space.attached
    if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
        raise UsageError(f"attempts is a number of transactions, 1 or more, not {attempts!r}")
    code = attached.default_durability if durability is None else attached.durability_of(durability)
    begin_ns = monotonic_ns()
    try:
        return Transaction.attempt(space, fn, code, isolation)
    except (ConflictError, SnapshotTooOldError) as error:
        lost: ConflictError | SnapshotTooOldError = error
    timeout_ns = attached.timeout_ns if timeout is None else int(timeout * 1e9)
    backoff, took_ns = Backoff(begin_ns + timeout_ns, attempts), 0
    while True:
        _await_turn(attached, lost, backoff, took_ns)
        begin_ns = monotonic_ns()
        try:
            return Transaction.attempt(space, fn, code, isolation)
        except (ConflictError, SnapshotTooOldError) as error:
            lost = error
        took_ns = monotonic_ns() - begin_ns


def _await_turn(
    attached: Attached, lost: ConflictError | SnapshotTooOldError, backoff: Backoff, took_ns: int
) -> None:
    """Wait until it makes sense to try again: for the turn at the key that was lost, if it is one.

    Raises:  what was lost, if no attempt may follow.
    """
    key = lost.key if isinstance(lost, ConflictError) else None
    if key is None or backoff.failed % BLIND_EVERY == BLIND_EVERY - 1:
        backoff.after(lost)
        return
    backoff.note(lost)
    rounds = 0
    while wait_us := attached.take_turn(key, took_ns // 1000, rounds == 0):
        # Who has waited for longest comes first.
        backoff.sleep(lost, (wait_us + LATE_US * max(8 - rounds, 0)) / 1e6)
        rounds += 1


@overload
def transactional(fn: F) -> F: ...
@overload
def transactional(
    *,
    attempts: int | None = None,
    timeout: float | None = None,
    isolation: str = "serializable",
    durability: str | None = None,
) -> Callable[[F], F]: ...
def transactional(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a function whose first argument is a transaction: it may be called with a database.

    Called with a database or key space it runs as by `Keyspace.transact`, with these options;
    called with a transaction (or one of its key spaces) it is part of that one. So such functions
    can call each other.

    Shape:   options, as `Keyspace.transact`.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def call(where: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(where, TransactionWriter):
                return fn(where, *args, **kwargs)
            transact = getattr(where, "transact", None)
            if transact is None:
                raise WrongTypeError(
                    f"{fn.__name__} is transactional: its first argument is a database, a key"
                    f" space or a transaction, not {type(where).__name__}"
                )
            return transact(lambda tx: fn(tx, *args, **kwargs), **options)

        return call

    return decorate if fn is None else decorate(fn)
