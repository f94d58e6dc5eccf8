"""CONFIG: what of the settings can be seen under Redis's names, and changed while the service runs.

What is changed is so in all workers, and in those that start later; a restart of the service
forgets it, for settings are kept in `ferrisdb.toml`. What Redis could change and FerrisDB can't
is refused as immutable.

| name | is |
| --- | --- |
| appendfsync | durability of connections that begin from now on: always, "sync"; everysec, "os" |
| client-output-buffer-limit | `output_bytes_max`: class normal, its hard limit |
| maxclients | `connection_count_max`, of each worker |
| proto-max-bulk-len | `request_bytes_max` |
| timeout | `connection_idle_s` |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.options import Options, parse_bytes
from ferrisdb.resp.arguments import read_integer
from ferrisdb.resp.command import SYNTAX_ERROR, CommandError, control, error_line, help_lines
from ferrisdb.resp.glob import matcher
from ferrisdb.resp.replies import OK, Reply

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session

_FSYNC: Final = {"always": layout.DURABILITY_SYNC, "everysec": layout.DURABILITY_OS}
_UNITS: Final = {"kb": "kib", "mb": "mib", "gb": "gib", "b": ""}
_LOG_LEVELS: Final = {"debug": "debug", "info": "notice", "warning": "warning"}

Changes = dict[str, Any]
"""Names of `Settings`, and "durability", with their values."""


class _Refused(Exception):
    """A value that can't be; the text says why."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter.

    Shape:   show, its value in one worker; read, the setting and its value that a text means,
             raising _Refused; None: it can't be changed.
    """

    show: Callable[[Service], str]
    read: Callable[[str], tuple[str, Any]] | None = None


def _constant(value: str) -> _Parameter:
    return _Parameter(lambda service: value)


def _option(name: str, absent: str = "") -> _Parameter:
    def show(service: Service) -> str:
        value = getattr(service.options, name)
        return absent if value is None else str(value)

    return _Parameter(show)


def _bounds(setting: str) -> tuple[int, int]:
    rule = Options.__dataclass_fields__[setting].metadata
    return rule["low"], rule["high"]


def _within(setting: str, number: int) -> int:
    low, high = _bounds(setting)
    if not low <= number <= high:
        raise _Refused(f"argument must be between {low} and {high} inclusive")
    return number


def _read_count(setting: str) -> Callable[[str], tuple[str, Any]]:
    def read(text: str) -> tuple[str, Any]:
        number = read_integer(text.encode())
        if number is None:
            raise _Refused("argument couldn't be parsed into an integer")
        return setting, _within(setting, number)

    return read


def _memory(text: str) -> int:
    """Return a size as Redis writes it: 100, 1k (1000), 1kb (1024) and so on."""
    digits = text.rstrip("bBkKmMgG")
    unit = text[len(digits) :].lower()
    try:
        if unit in ("k", "m", "g"):
            return parse_bytes(digits) * {"k": 10**3, "m": 10**6, "g": 10**9}[unit]
        return parse_bytes(digits + _UNITS.get(unit, unit))
    except Exception as error:
        raise _Refused("argument must be a memory value") from error


def _read_request_bytes(text: str) -> tuple[str, Any]:
    return "request_bytes_max", _within("request_bytes_max", _memory(text))


def _read_output_bytes(text: str) -> tuple[str, Any]:
    words = text.split()
    if not words or len(words) % 4:
        raise _Refused("Wrong number of arguments in buffer limit configuration.")
    chosen = {words[at].lower(): words[at + 1 : at + 4] for at in range(0, len(words), 4)}
    if not chosen.keys() <= {"normal", "slave", "replica", "pubsub"} or "normal" not in chosen:
        raise _Refused("Invalid client class specified in buffer limit configuration.")
    hard, soft, _ = chosen["normal"]
    try:
        if _memory(soft):
            raise _Refused("there is a hard limit only: write 0 for the soft one")
        number = _memory(hard)
    except _Refused as error:
        if "memory" not in str(error):
            raise
        raise _Refused(
            "Error in hard, soft or soft_seconds setting in buffer limit configuration."
        ) from error
    return "output_bytes_max", _within("output_bytes_max", number)


def _read_fsync(text: str) -> tuple[str, Any]:
    code = _FSYNC.get(text.lower())
    if code is None:
        raise _Refused(f"argument(s) must be one of the following: {', '.join(_FSYNC)}")
    return "durability", code


def _show_fsync(service: Service) -> str:
    return next(name for name, code in _FSYNC.items() if code == service.durability)


PARAMETERS: Final[dict[str, _Parameter]] = {
    "appendfsync": _Parameter(_show_fsync, _read_fsync),
    "appendonly": _constant("yes"),
    "bind": _Parameter(lambda s: s.options.tcp_host if s.options.tcp_port else ""),
    "client-output-buffer-limit": _Parameter(
        lambda s: f"normal {s.settings.output_bytes_max} 0 0 slave 0 0 0 pubsub 0 0 0",
        _read_output_bytes,
    ),
    "cluster-enabled": _constant("no"),
    "daemonize": _constant("no"),
    "databases": _constant("1"),
    "dir": _Parameter(lambda s: s.attached.path),
    "enable-debug-command": _Parameter(lambda s: "yes" if s.settings.debug_commands else "no"),
    "io-threads": _Parameter(lambda s: str(s.options.worker_count)),
    "loglevel": _Parameter(lambda s: _LOG_LEVELS.get(s.options.log_level, "warning")),
    "maxclients": _Parameter(
        lambda s: str(s.settings.connection_count_max), _read_count("connection_count_max")
    ),
    "maxmemory": _constant("0"),
    "maxmemory-policy": _constant("noeviction"),
    "notify-keyspace-events": _constant(""),
    "port": _option("tcp_port", "0"),
    "proto-max-bulk-len": _Parameter(
        lambda s: str(s.settings.request_bytes_max), _read_request_bytes
    ),
    "save": _constant(""),
    "timeout": _Parameter(
        lambda s: str(int(s.settings.connection_idle_s)), _read_count("connection_idle_s")
    ),
    "tls-cert-file": _option("tls_cert_file"),
    "tls-key-file": _option("tls_key_file"),
    "tls-port": _option("tls_port", "0"),
    "unixsocket": _Parameter(lambda s: DIR(s.attached.path).fixed(FileKind.SOCKET)),
    "unixsocketperm": _Parameter(lambda s: "600" if s.options.socket_group is None else "660"),
}


def apply_changes(service: Service, changes: Changes) -> None:
    """Put settings in force in this worker."""
    for name, value in changes.items():
        if name == "durability":
            service.durability = value
        else:
            setattr(service.settings, name, value)
    service.apply_settings()


@control("config|get", -3, "admin noscript loading stale")
def config_get(session: Session, args: list[bytes]) -> Reply:
    """Return the parameters that match any of the patterns, and their values."""
    found: dict[bytes, bytes] = {}
    for word in args:
        pattern = word.partition(b"\0")[0]
        if not any(mark in pattern for mark in b"[*?"):
            parameter = PARAMETERS.get(pattern.lower().decode("latin-1"))
            # Shown as it was asked for.
            if parameter is not None:
                found.setdefault(pattern, parameter.show(session.service).encode())
            continue
        matches = matcher(pattern, ignore_case=True)
        for name, parameter in PARAMETERS.items():
            if matches(name.encode()):
                found.setdefault(name.encode(), parameter.show(session.service).encode())
    return found


@control("config|set", -4, "admin noscript loading stale")
def config_set(session: Session, args: list[bytes]) -> Reply:
    """Change parameters: all of them, or none."""
    if len(args) % 2:
        raise CommandError(SYNTAX_ERROR)
    changes: Changes = {}
    chosen: dict[str, str] = {}
    for word, value in zip(args[::2], args[1::2], strict=True):
        name = word.partition(b"\0")[0].lower().decode("latin-1")
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise CommandError(
                error_line(
                    b"ERR Unknown option or number of arguments for CONFIG SET - '", word, b"'"
                )
            )
        if parameter.read is None:
            raise _failed(name, "can't set immutable config")
        if name in chosen:
            raise _failed(name, "duplicate parameter")
        chosen[name] = value.partition(b"\0")[0].decode("utf-8", "replace")
    for name, text in chosen.items():
        read = PARAMETERS[name].read
        assert read is not None, "it was looked at above"
        try:
            setting, new = read(text)
        except _Refused as error:
            raise _failed(name, str(error)) from None
        changes[setting] = new
    service = session.service
    apply_changes(service, changes)
    # All of them, for one who starts later is told the last only.
    everything = {**asdict(service.settings), "durability": service.durability}
    service.peers.tell(("config", everything), key="config")
    return OK


def _failed(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


@control("config|resetstat", 2, "admin noscript loading stale")
def config_resetstat(session: Session, args: list[bytes]) -> Reply:
    """Let the figures of INFO begin at 0 again, in all workers."""
    del args
    service = session.service
    service.answer(("resetstat",))
    service.peers.tell(("resetstat",))
    return OK


@control("config|help", 2, "loading stale")
def config_help(session: Session, args: list[bytes]) -> Reply:
    """Return what there is of CONFIG."""
    del session, args
    return help_lines(
        b"CONFIG",
        b"""\
GET <pattern>
    Return parameters matching the glob-like <pattern> and their values.
SET <directive> <value>
    Set the configuration <directive> to <value>, until the service restarts.
RESETSTAT
    Reset statistics reported by the INFO command.""",
    )
