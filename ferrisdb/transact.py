"""Run a function in transactions until one of them commits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ferrisdb.backoff import Backoff
from ferrisdb.errors import ConflictError, SnapshotTooOldError, UsageError, WrongTypeError
from ferrisdb.transaction import Transaction, TransactionWriter

if TYPE_CHECKING:
    from ferrisdb.kernel.space import Space

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def run(
    space: Space,
    fn: Callable[[Transaction], T],
    *,
    attempts: int | None,
    timeout: float | None,
    isolation: str,
    durability: str | None,
) -> T:
    """Do what `Keyspace.transact` says."""
    attached = space.attached
    if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
        raise UsageError(f"attempts is a number of transactions, 1 or more, not {attempts!r}")
    code = attached.durability_of(durability)
    deadline_ns = attached.deadline_ns(timeout)
    backoff = None
    while True:
        tx = Transaction(space, code, isolation, False)
        try:
            result = fn(tx)
            tx.end()
            return result
        except (ConflictError, SnapshotTooOldError) as error:
            lost = error
        finally:
            tx.rollback()
        backoff = backoff or Backoff(deadline_ns, attempts)
        backoff.after(lost)


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
