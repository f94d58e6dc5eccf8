"""Say what the coordinator and its reader workers tell each other.

Frozen values, sent over a channel (channel.py). A worker's request is a tuple that the workers
understand (resp); the coordinator carries it and doesn't look into it.

| to a worker | when |
| --- | --- |
| ReaderStart | first, once |
| Question | another worker asks; it answers with an Answer |
| Asked | the numbers of the workers that its own question went to |
| Answered | one of them has answered |
| PeerGone | a worker died: from that one no answer comes |
| Told | another worker tells something that has no answer |
| Reload | settings and users are to be read again |
| Leave | finish, and leave |

| to the coordinator | when |
| --- | --- |
| Up | it serves |
| Ask, Answer, Tell | for the other workers |
| ShutDown | a client wants the service to end |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ferrisdb.exit_codes import ExitCode
from ferrisdb.options import Options

Request = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ReaderStart:
    """What a worker is started with."""

    number: int
    generation: int
    parent_pid: int
    options: Options
    #: Descriptor and kind (listeners.Kind) of each listening socket.
    listeners: tuple[tuple[int, int], ...]
    #: An eventfd that the coordinator writes to when it has answered.
    wake_fd: int


@dataclass(frozen=True, slots=True)
class Question:
    """Worker `asker` wants to know something; `ask_no` comes back with the answer."""

    asker: int
    ask_no: int
    request: Request


@dataclass(frozen=True, slots=True)
class Asked:
    """A question went to these workers."""

    ask_no: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """Worker `number` has answered."""

    ask_no: int
    number: int
    answer: Any


@dataclass(frozen=True, slots=True)
class PeerGone:
    """Worker `number` died."""

    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """Another worker tells this."""

    request: Request


@dataclass(frozen=True, slots=True)
class Reload:
    """Read what SIGHUP has read again."""

    log_level: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Take no more connections, finish what is under way, and leave."""


@dataclass(frozen=True, slots=True)
class Up:
    """The worker serves; its client's index and id."""

    index: int
    client_id: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the other workers; `ask_no` is the asker's own."""

    ask_no: int
    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a Question."""

    asker: int
    ask_no: int
    answer: Any


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the other workers; under a key, the last one is told to those that start later, too."""

    request: Request
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ShutDown:
    """A client wants the service to end."""


# What the hub tells the coordinator's main thread


@dataclass(frozen=True, slots=True)
class ReaderUp:
    """A worker serves."""

    number: int
    index: int
    client_id: bytes


@dataclass(frozen=True, slots=True)
class ReaderGone:
    """A worker is gone that was not told to leave; None: it could not be started."""

    number: int
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class ConnectionWaits:
    """The first connection has come."""


@dataclass(frozen=True, slots=True)
class ExitWanted:
    """The service is to end."""

    code: ExitCode


HubNote = ReaderUp | ReaderGone | ConnectionWaits | ExitWanted
