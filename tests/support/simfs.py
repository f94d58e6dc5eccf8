"""A file system that remembers what a power cut could leave.

`SimFileSystem` works on a real directory (so that descriptors, mmap and compiled code do), and
keeps beside it the list of everything that changed and everything that was synced. Afterwards
`materialise(index, ...)` builds in a new directory what may be there if the power had failed just
before call `index`. The model is POSIX at its strictest:

- a file's bytes are safe once `datasync` of that file returned; before, any of its 512-byte or
  4 KiB pages may be there or not, in any order;
- a name (create, rename, unlink, link, mkdir) is safe once `sync_dir` of its directory returned;
  before, each change may be there or not, in any order; a rename is all or nothing.

Calls are numbered from 0; each write, truncation, sync and change of a name is one. Bytes that
compiled code writes through `fileno()` are noticed at the next call. Real syncs are not done.

Mutation: `ignore_sync(...)` makes chosen syncs do nothing, to show that a history needs them;
`without(...)` says what a history would have left without them, where no call's outcome hangs on
its syncs. Faults: `fail(index, errno)`; a write that fails leaves half of its bytes; `fill(index)`
leaves no space until `free()`. Death:
`kill(index)` and `kill_before(...)` raise `Killed` at a call and at each one behind it, so that
nothing tidies up, until `revive()`.

Long because files, names, what they leave and the faults are one model: apart they would be knobs
on each other.
"""

from __future__ import annotations

import copy
import errno
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from ferrisdb.seams import File, RealFile, RealFileSystem, lacks_space, storage_error

Buffer = bytes | bytearray | memoryview
RAW_PAGE_BYTES = 4096


class Killed(BaseException):
    """The process that makes this call has died; not an Exception, so that none handles it."""


class Survival(Enum):
    """What of the unsynced a power cut leaves."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    """Also: the process dies and the machine lives."""
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Call:
    """One mutating call: what it was, on which path, and which function made it."""

    index: int
    kind: str
    path: str
    site: str


@dataclass(frozen=True, slots=True)
class _Write:
    node: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Truncate:
    node: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class _DataSync:
    node: int


@dataclass(frozen=True, slots=True)
class _Names:
    """One atomic change of names: (directory node, name, node or None)."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True, slots=True)
class _DirSync:
    node: int


_Effect = _Write | _Truncate | _DataSync | _Names | _DirSync


@dataclass(slots=True)
class _Node:
    is_directory: bool
    image: bytearray = field(default_factory=bytearray)
    names: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Durable:
    content: bytearray = field(default_factory=bytearray)
    pending: list[_Write | _Truncate] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Replayed:
    """What the first `position` effects, those of calls below `index`, have made durable."""

    index: int = 0
    position: int = 0
    nodes: list[_Durable] = field(default_factory=list)
    pending: list[_Names] = field(default_factory=list)


class SimFile:
    """A real file whose changes are recorded."""

    def __init__(self, fs: SimFileSystem, real: RealFile, node: int) -> None:
        self._fs = fs
        self._real = real
        self._node = node
        self.raw = False

    @property
    def path(self) -> str:
        return self._real.path

    @property
    def node(self) -> int:
        return self._node

    @property
    def poisoned(self) -> bool:
        return self._real.poisoned

    def append(self, buffer: Buffer) -> int:
        offset = self._real.size()
        self.pwrite(buffer, offset)
        return offset

    def pwrite(self, buffer: Buffer, offset: int) -> None:
        self._real._writable()
        content = bytes(buffer)
        grows = offset + len(content) > self._real.size()
        error = self._fs.begin("write", self.path, needs_space=grows)
        if error is not None:
            content = content[: len(content) // 2]
        self._real.pwrite(content, offset)
        self._fs.effect(_Write(self._node, offset, content))
        self._check(error)

    def pread(self, n: int, offset: int) -> bytes:
        return self._real.pread(n, offset)

    def datasync(self) -> None:
        self._real._writable()
        error = self._fs.begin("datasync", self.path)
        self._check(error, in_doubt=True)
        if not self._fs.ignored("datasync"):
            self._fs.effect(_DataSync(self._node))

    def start_sync(self) -> None:
        """Nothing becomes durable by it."""

    def allocate_zeroed(self, file_bytes: int) -> None:
        if file_bytes > self._real.size():
            self.append(bytes(file_bytes - self._real.size()))
        self.datasync()

    def truncate(self, file_bytes: int) -> None:
        self._real._writable()
        self._check(self._fs.begin("truncate", self.path), in_doubt=True)
        self._real.truncate(file_bytes)
        self._fs.effect(_Truncate(self._node, file_bytes))

    def size(self) -> int:
        return self._real.size()

    def fileno(self) -> int:
        self.raw = True
        return self._real.fileno()

    def close(self) -> None:
        self._fs.forget(self)
        self._real.close()

    def _check(self, error: OSError | None, *, in_doubt: bool = False) -> None:
        if error is not None:
            self._real._poisoned = in_doubt or not lacks_space(error)
            raise storage_error(error, self.path, in_doubt=in_doubt)


class SimFileSystem:
    """See the module's docstring. `root` is a real directory; what it holds counts as synced."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.calls: list[Call] = []
        self._real = RealFileSystem()
        self._nodes: list[_Node] = [_Node(is_directory=True)]
        self._effects: list[tuple[int, _Effect]] = []
        self._files: list[SimFile] = []
        self._replayed: _Replayed | None = None
        self._fail: dict[int, int] = {}
        self._full_from: int | None = None
        self._kill_at: int | None = None
        self._kill_before: tuple[str, str] | None = None
        self._ignore: list[tuple[str, str | None, int | None]] = []
        self._import(0, self.root)

    def _import(self, node: int, path: str) -> None:
        for name in sorted(os.listdir(path)):
            child_path = f"{path}/{name}"
            child = self._add(is_directory=os.path.isdir(child_path))
            self._record(-1, _Names(((node, name, child),)))
            if self._nodes[child].is_directory:
                self._import(child, child_path)
            else:
                self._record(-1, _Write(child, 0, self._real.read_all(child_path)))
                self._record(-1, _DataSync(child))
        self._record(-1, _DirSync(node))

    # -- knobs and what is recorded

    @property
    def call_count(self) -> int:
        """Index of the next call."""
        return len(self.calls)

    def fail(self, index: int, number: int) -> None:
        """Make the call with this index fail with this errno."""
        self._fail[index] = number

    def fill(self, index: int) -> None:
        """Leave no space from the call with this index on: what grows or makes a file fails."""
        self._full_from = index

    def free(self) -> None:
        """Give space again."""
        self._full_from = None

    def kill(self, index: int) -> None:
        """Have the process die at the call with this index."""
        self._kill_at = index

    def kill_before(self, kind: str, site: str) -> None:
        """Have the process die where that function makes its next call of that kind."""
        self._kill_before = (kind, site)

    def revive(self) -> None:
        """Let another process make calls; deaths that were to come are called off."""
        self._kill_at = self._kill_before = None

    def ignore_sync(
        self, kind: str, *, site: str | None = None, ordinal: int | None = None
    ) -> None:
        """Make syncs do nothing: kind is "datasync" or "sync_dir".

        site: only those that this function makes; ordinal: only the n-th (from 0) of that kind
        and site, or of that kind.
        """
        self._ignore.append((kind, site, ordinal))

    def without(self, kind: str, site: str) -> SimFileSystem:
        """Return the same history without these syncs, for `materialise` alone."""
        gone = _DataSync if kind == "datasync" else _DirSync
        twin = copy.copy(self)
        twin._replayed = None
        twin._effects = [
            (index, effect)
            for index, effect in self._effects
            if index < 0 or not isinstance(effect, gone) or self.calls[index].site != site
        ]
        return twin

    def sync_sites(self) -> list[tuple[str, str]]:
        """Return (kind, site) of every sync so far, each once, in order of appearance."""
        kinds = ("datasync", "sync_dir")
        return list(dict.fromkeys((c.kind, c.site) for c in self.calls if c.kind in kinds))

    def begin(self, kind: str, path: str, *, needs_space: bool = False) -> OSError | None:
        """Record a call; return the error with which it is to fail."""
        self.capture()
        index, site = self.call_count, _call_site()
        if self._kill_before == (kind, site):
            self._kill_at = index
        if self._kill_at is not None and index >= self._kill_at:
            raise Killed
        self.calls.append(Call(index, kind, path, site))
        number = self._fail.pop(index, None)
        if number is None and needs_space and self._full_from is not None:
            number = errno.ENOSPC if index >= self._full_from else None
        return None if number is None else OSError(number, os.strerror(number), path)

    def effect(self, effect: _Effect) -> None:
        """Record what the call that began last has changed."""
        self._record(self.call_count - 1, effect)

    def ignored(self, kind: str) -> bool:
        """Tell whether the sync that began last is to do nothing."""
        site = self.calls[-1].site
        found = False
        for wanted_kind, wanted_site, ordinal in self._ignore:
            if wanted_kind != kind or wanted_site not in (None, site):
                continue
            earlier = sum(c.kind == kind and wanted_site in (None, c.site) for c in self.calls[:-1])
            found = found or ordinal in (None, earlier)
        return found

    def capture(self) -> None:
        """Notice bytes that were written through descriptors."""
        for file in self._files:
            if not file.raw:
                continue
            image = self._nodes[file.node].image
            size = os.fstat(file._real.fileno()).st_size
            live = os.pread(file._real.fileno(), size, 0)
            if live == image:
                continue
            for at in range(0, len(live), RAW_PAGE_BYTES):
                page = live[at : at + RAW_PAGE_BYTES]
                if page != image[at : at + RAW_PAGE_BYTES]:
                    self._record(self.call_count - 1, _Write(file.node, at, page))

    def _record(self, index: int, effect: _Effect) -> None:
        self._effects.append((index, effect))
        match effect:
            case _Write(node, offset, content):
                _overwrite(self._nodes[node].image, offset, content)
            case _Truncate(node, file_bytes):
                _resize(self._nodes[node].image, file_bytes)
            case _Names(changes):
                _rename(lambda node: self._nodes[node].names, changes)
            case _:
                pass

    def forget(self, file: SimFile) -> None:
        """Let go of a file that is closed."""
        if file in self._files:
            self.capture()
            self._files.remove(file)

    # -- FileSystem

    def open_read(self, path: str) -> File:
        return self._real.open_read(path)

    def open_rw(self, path: str) -> File:
        return self._track(self._real.open_rw(path), self._find(path))

    def create(self, path: str) -> File:
        self._change("create", path)
        real = self._real.create(path)
        node = self._add(is_directory=False)
        self.effect(_Names(((*self._place(path), node),)))
        return self._track(real, node)

    def rename(self, source: str, target: str) -> None:
        self._change("rename", target)
        node = self._find(source)
        self._real.rename(source, target)
        self.effect(_Names(((*self._place(source), None), (*self._place(target), node))))

    def unlink(self, path: str) -> None:
        self._change("unlink", path)
        self._real.unlink(path)
        self.effect(_Names(((*self._place(path), None),)))

    def link(self, source: str, target: str) -> None:
        self._change("link", target)
        self._real.link(source, target)
        self.effect(_Names(((*self._place(target), self._find(source)),)))

    def mkdir(self, path: str) -> None:
        self._change("mkdir", path)
        self._real.mkdir(path)
        self.effect(_Names(((*self._place(path), self._add(is_directory=True)),)))

    def sync_dir(self, path: str) -> None:
        self._change("sync_dir", path)
        if not self.ignored("sync_dir"):
            self.effect(_DirSync(self._find(path)))

    def list_dir(self, path: str) -> list[str]:
        return self._real.list_dir(path)

    def exists(self, path: str) -> bool:
        return self._real.exists(path)

    def size(self, path: str) -> int:
        return self._real.size(path)

    def read_all(self, path: str) -> bytes:
        return self._real.read_all(path)

    # -- the power cut

    def materialise(
        self, index: int, target: str, survival: Survival, rng: random.Random | None = None
    ) -> None:
        """Build in `target`, a new directory, what may be left just before call `index`.

        rng: for RANDOM, which pages and names survive.
        """
        self.capture()
        state = self._replay(index)
        rng = rng or random.Random(0)
        places = [dict(node.names) for node in state.nodes]
        for change in _surviving_names(state.pending, survival, rng):
            _rename(lambda node: places[node], change.changes)
        contents: dict[int, str] = {}
        self._build(0, target, state.nodes, places, survival, rng, contents)

    def _replay(self, index: int) -> _Replayed:
        # Goes on from where it was left, as cuts mostly come in the order of their calls.
        state = self._replayed
        if state is None or state.index > index:
            state = self._replayed = _Replayed()
        state.index = index
        state.nodes += [_Durable() for _ in range(len(self._nodes) - len(state.nodes))]
        while state.position < len(self._effects) and self._effects[state.position][0] < index:
            effect = self._effects[state.position][1]
            state.pending = _advance(state.nodes, state.pending, effect)
            state.position += 1
        return state

    def _build(
        self,
        node: int,
        path: str,
        durable: list[_Durable],
        places: list[dict[str, int]],
        survival: Survival,
        rng: random.Random,
        built: dict[int, str],
    ) -> None:
        if self._nodes[node].is_directory:
            os.mkdir(path)
            for name, child in sorted(places[node].items()):
                self._build(child, f"{path}/{name}", durable, places, survival, rng, built)
        elif node in built:
            os.link(built[node], path)
        else:
            with open(path, "xb") as file:
                file.write(_surviving_content(durable[node], survival, rng))
            built[node] = path

    # -- namespace

    def _change(self, kind: str, path: str) -> None:
        error = self.begin(kind, path, needs_space=kind in ("create", "link", "mkdir"))
        if error is not None:
            raise storage_error(error, path, in_doubt=kind == "sync_dir")

    def _track(self, real: RealFile, node: int) -> SimFile:
        file = SimFile(self, real, node)
        self._files.append(file)
        return file

    def _add(self, *, is_directory: bool) -> int:
        self._nodes.append(_Node(is_directory))
        return len(self._nodes) - 1

    def _place(self, path: str) -> tuple[int, str]:
        parent, name = os.path.split(os.path.abspath(path))
        return self._find(parent), name

    def _find(self, path: str) -> int:
        relative = os.path.relpath(os.path.abspath(path), self.root)
        node = 0
        for part in [] if relative == "." else relative.split("/"):
            node = self._nodes[node].names[part]
        return node


def _call_site() -> str:
    # The nearest function outside the seams: what ignore_sync and reports call a site.
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"] in (__name__, "ferrisdb.seams"):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"


def _overwrite(image: bytearray, offset: int, content: bytes) -> None:
    if offset > len(image):
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(content)] = content


def _resize(image: bytearray, file_bytes: int) -> None:
    if file_bytes < len(image):
        del image[file_bytes:]
    else:
        image.extend(bytes(file_bytes - len(image)))


def _rename(
    names_of: Callable[[int], dict[str, int]], changes: tuple[tuple[int, str, int | None], ...]
) -> None:
    for directory, name, node in changes:
        if node is None:
            names_of(directory).pop(name, None)
        else:
            names_of(directory)[name] = node


def _apply(content: bytearray, change: _Write | _Truncate) -> None:
    if isinstance(change, _Write):
        _overwrite(content, change.offset, change.content)
    else:
        _resize(content, change.file_bytes)


def _advance(durable: list[_Durable], names: list[_Names], effect: _Effect) -> list[_Names]:
    # Returns the changes of names that are still unsynced.
    match effect:
        case _Write(node) | _Truncate(node):
            durable[node].pending.append(effect)
        case _DataSync(node):
            for change in durable[node].pending:
                _apply(durable[node].content, change)
            durable[node].pending.clear()
        case _Names():
            return [*names, effect]
        case _DirSync(node):
            left = []
            for one in names:
                if any(directory == node for directory, _, _ in one.changes):
                    _rename(lambda at: durable[at].names, one.changes)
                else:
                    left.append(one)
            return left
    return names


def _surviving_names(names: list[_Names], survival: Survival, rng: random.Random) -> list[_Names]:
    if survival is Survival.NOTHING:
        return []
    if survival is Survival.EVERYTHING:
        return names
    if rng.random() < 0.5:
        return names[: rng.randint(0, len(names))]
    return [change for change in names if rng.random() < 0.5]


def _surviving_content(node: _Durable, survival: Survival, rng: random.Random) -> bytes:
    if survival is Survival.NOTHING or not node.pending:
        return bytes(node.content)
    live = bytearray(node.content)
    count = len(node.pending)
    if survival is Survival.RANDOM and rng.random() < 0.4:
        # A page may also be there in an older state than the newest.
        count = rng.randint(0, count)
    for change in node.pending[:count]:
        _apply(live, change)
    if survival is Survival.EVERYTHING:
        return bytes(live)
    page_bytes = rng.choice((512, 4096))
    chance = rng.choice((0.1, 0.5, 0.9))
    out = bytearray(node.content)
    for at in range(0, len(live), page_bytes):
        page = live[at : at + page_bytes]
        if page != node.content[at : at + page_bytes] and rng.random() < chance:
            _overwrite(out, at, bytes(page))
    return bytes(out)
