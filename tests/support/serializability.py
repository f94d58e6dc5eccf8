"""Judge a history of transactions: is there an order of them, one by one, that explains it?

What is judged are values alone. Every value that a transaction writes is unique, and for each key
the order of its versions is known: lists grow by appending, and the longest one that was read
tells the order; of a register a final read of its chain of predecessors does. From that follow the
dependencies between committed transactions,

    ww  wrote the next version of what the other wrote
    wr  read what the other wrote
    rw  read what the other then replaced (an anti-dependency)

and an anomaly is a cycle of them: G0 of ww alone, G1c of ww and wr, G-single with one rw, G2 with
more. A range read is a read of every key of the history that lies in the range, absent ones too; so
a phantom is a cycle like any other. With `strict` a transaction that began behind another's end
depends on it as well, through a chain of instants.

Source: Adya, Liskov, O'Neil, "Generalized Isolation Level Definitions", 2000; the inference of
version orders from list appends is Kingsbury and Alvaro's, "Elle", 2020.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Key = bytes
Value = int
Status = Literal["committed", "aborted", "unknown"]


@dataclass(frozen=True)
class Append:
    """Appended a value to a key's list; for a register: replaced what it held."""

    key: Key
    value: Value


@dataclass(frozen=True)
class Read:
    """Read a key's list: values in order, none if it is absent."""

    key: Key
    values: tuple[Value, ...]


@dataclass(frozen=True)
class RangeRead:
    """Read all of [first, last): the lists of the keys that were there. None: no bound."""

    first: Key
    last: Key | None
    rows: tuple[tuple[Key, tuple[Value, ...]], ...]


Op = Append | Read | RangeRead


@dataclass(frozen=True)
class Tx:
    """One transaction: what it did in order, what became of it, when it began and ended."""

    name: str
    ops: tuple[Op, ...]
    status: Status = "committed"
    begin_ns: int = 0
    end_ns: int = 0


@dataclass
class Verdict:
    """What was found: kinds of anomalies, each with the transactions or values that show it."""

    anomalies: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    committed: int = 0
    edges: int = 0

    def add(self, kind: str, text: str) -> None:
        """Note an anomaly; of each kind a few are enough."""
        if len(self.anomalies[kind]) < 5:
            self.anomalies[kind].append(text)


class _Graph:
    """Dependencies between transactions; a node below 0 is an instant."""

    def __init__(self) -> None:
        self.out: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.nodes: set[int] = set()

    def add(self, source: int, target: int, kind: str) -> None:
        if source != target:
            self.out[source][target].add(kind)
            self.nodes |= {source, target}

    def next_of(self, node: int, kinds: frozenset[str]) -> list[int]:
        return [t for t, found in self.out.get(node, {}).items() if found & kinds]

    def path(self, source: int, target: int, kinds: frozenset[str]) -> list[int] | None:
        """Return a shortest path from source to target, None if there is none."""
        before = {source: source}
        waiting = deque([source])
        while waiting:
            node = waiting.popleft()
            for one in self.next_of(node, kinds):
                if one in before:
                    continue
                before[one] = node
                if one == target:
                    found = [one]
                    while found[-1] != source:
                        found.append(before[found[-1]])
                    return found[::-1]
                waiting.append(one)
        return None

    def components(self, kinds: frozenset[str]) -> list[set[int]]:
        """Return the strongly connected components of two nodes and more (Tarjan 1972)."""
        number: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        found: list[set[int]] = []
        for root in self.nodes:
            if root in number:
                continue
            number[root] = low[root] = len(number)
            stack.append(root)
            on_stack.add(root)
            work = [(root, iter(self.next_of(root, kinds)))]
            while work:
                node, targets = work[-1]
                for target in targets:
                    if target not in number:
                        number[target] = low[target] = len(number)
                        stack.append(target)
                        on_stack.add(target)
                        work.append((target, iter(self.next_of(target, kinds))))
                        break
                    if target in on_stack:
                        low[node] = min(low[node], number[target])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == number[node]:
                        component: set[int] = set()
                        while not component or node not in component:
                            one = stack.pop()
                            on_stack.discard(one)
                            component.add(one)
                        if len(component) > 1:
                            found.append(component)
        return found


def check(history: Iterable[Tx], *, strict: bool = False) -> Verdict:
    """Return what is wrong with a history: nothing, if some order of its transactions explains it.

    Shape:  the last transaction to read each key should be one that reads it whole, so that the
            order of all its versions is known. strict: real time counts, too.
    """
    txs = list(history)
    verdict = Verdict()
    writers = {
        (op.key, op.value): index
        for index, tx in enumerate(txs)
        for op in tx.ops
        if isinstance(op, Append)
    }
    keys = sorted({key for key, _ in writers})
    reads = [list(_reads(tx, keys)) for tx in txs]
    seen = {(key, value) for one in reads for key, values in one for value in values}
    live = {
        index
        for index, tx in enumerate(txs)
        if tx.status == "committed"
        or (
            tx.status == "unknown"
            and any(isinstance(op, Append) and (op.key, op.value) in seen for op in tx.ops)
        )
    }
    verdict.committed = len(live)
    orders = _version_orders(txs, reads, live, verdict)
    _check_reads(txs, reads, writers, live, orders, verdict)
    graph = _dependencies(txs, reads, writers, live, orders)
    if strict:
        _add_time(graph, txs, live)
    verdict.edges = sum(len(found) for found in graph.out.values())
    _find_cycles(graph, txs, verdict)
    return verdict


def _reads(tx: Tx, keys: Sequence[Key]) -> Iterable[tuple[Key, tuple[Value, ...]]]:
    """Yield (key, list) of what a transaction read, without what it had appended itself before."""
    own: dict[Key, list[Value]] = defaultdict(list)
    for op in tx.ops:
        if isinstance(op, Append):
            own[op.key].append(op.value)
            continue
        if isinstance(op, Read):
            rows = {op.key: op.values}
        else:
            end = len(keys) if op.last is None else bisect_left(keys, op.last)
            within = keys[bisect_left(keys, op.first) : end]
            rows = dict.fromkeys(within, ()) | dict(op.rows)
        for key, values in rows.items():
            mine = tuple(own.get(key, ()))
            if mine and values[len(values) - len(mine) :] != mine:
                yield key, (*values, -1)  # its own write is not there: no writer has -1
            else:
                yield key, values[: len(values) - len(mine)]


def _version_orders(
    txs: Sequence[Tx],
    reads: Sequence[Sequence[tuple[Key, tuple[Value, ...]]]],
    live: set[int],
    verdict: Verdict,
) -> dict[Key, tuple[Value, ...]]:
    """Return each key's versions in order: the longest list that was read."""
    longest: dict[Key, tuple[Value, ...]] = defaultdict(tuple)
    for index in live:
        for key, values in reads[index]:
            longest[key] = max(longest[key], values, key=len)
    for index in live:
        for key, values in reads[index]:
            if longest[key][: len(values)] != values:
                verdict.add(
                    "incompatible-order",
                    f"{txs[index].name} read {values} of {key!r}, others {longest[key]}",
                )
    return longest


def _check_reads(
    txs: Sequence[Tx],
    reads: Sequence[Sequence[tuple[Key, tuple[Value, ...]]]],
    writers: dict[tuple[Key, Value], int],
    live: set[int],
    orders: dict[Key, tuple[Value, ...]],
    verdict: Verdict,
) -> None:
    """Find what single reads and lost writes show."""
    last_of: dict[tuple[Key, int], Value] = {}
    for index, tx in enumerate(txs):
        for op in tx.ops:
            if isinstance(op, Append):
                last_of[op.key, index] = op.value
    for index in live:
        for key, values in reads[index]:
            for value in values:
                writer = writers.get((key, value))
                if writer is None:
                    verdict.add("unwritten", f"{txs[index].name} read {value} of {key!r}")
                elif writer not in live:
                    verdict.add("G1a", f"{txs[index].name} read {value}, aborted, of {key!r}")
            writer = writers.get((key, values[-1])) if values else None
            if writer is not None and writer != index and last_of[key, writer] != values[-1]:
                verdict.add("G1b", f"{txs[index].name} read {values[-1]}, unfinished, of {key!r}")
            if len(set(values)) != len(values):
                verdict.add("duplicate", f"{txs[index].name} read {values} of {key!r}")
    for (key, value), writer in writers.items():
        if txs[writer].status == "committed" and value not in orders[key]:
            verdict.add("lost", f"{txs[writer].name} wrote {value} to {key!r}; it is not there")


def _dependencies(
    txs: Sequence[Tx],
    reads: Sequence[Sequence[tuple[Key, tuple[Value, ...]]]],
    writers: dict[tuple[Key, Value], int],
    live: set[int],
    orders: dict[Key, tuple[Value, ...]],
) -> _Graph:
    graph = _Graph()
    position = {
        (key, value): at for key, values in orders.items() for at, value in enumerate(values)
    }

    def writer_at(key: Key, at: int) -> int | None:
        values = orders[key]
        return writers.get((key, values[at])) if 0 <= at < len(values) else None

    for key, values in orders.items():
        for at in range(1, len(values)):
            before, after = writer_at(key, at - 1), writer_at(key, at)
            if before is not None and after is not None:
                graph.add(before, after, "ww")
    for index in live:
        for key, values in reads[index]:
            at = position.get((key, values[-1]), -1) if values else -1
            writer = writer_at(key, at)
            if writer is not None:
                graph.add(writer, index, "wr")
            after = writer_at(key, at + 1)
            if after is not None:
                graph.add(index, after, "rw")
    return graph


def _add_time(graph: _Graph, txs: Sequence[Tx], live: set[int]) -> None:
    """Have each transaction depend on those that ended before it began, through instants."""
    ends = sorted((txs[index].end_ns, index) for index in live if txs[index].status == "committed")
    instant = {}
    for number, (_, index) in enumerate(ends):
        instant[number] = -1 - number
        graph.add(index, -1 - number, "time")
        if number:
            graph.add(-number, -1 - number, "time")
    at = 0
    for begin_ns, index in sorted((txs[index].begin_ns, index) for index in live):
        while at < len(ends) and ends[at][0] < begin_ns:
            at += 1
        if at:
            graph.add(instant[at - 1], index, "time")


def _find_cycles(graph: _Graph, txs: Sequence[Tx], verdict: Verdict) -> None:
    def describe(nodes: Sequence[int]) -> str:
        return " -> ".join(txs[node].name for node in nodes if node >= 0)

    time = frozenset({"time"})
    for kind, kinds in (("G0", {"ww"}), ("G1c", {"ww", "wr"})):
        for component in graph.components(frozenset(kinds) | time):
            first = min(node for node in component if node >= 0)
            verdict.add(kind, describe(_cycle(graph, first, frozenset(kinds) | time)))
    without = frozenset({"ww", "wr"}) | time
    everything = without | {"rw"}
    for component in graph.components(everything):
        single = False
        for node in component:
            for target in graph.next_of(node, frozenset({"rw"})):
                back = graph.path(target, node, without) if target in component else None
                if back is not None:
                    verdict.add("G-single", describe([node, *back]))
                    single = True
        # With two and more of them; also if there are shorter ones beside.
        first = min(node for node in component if node >= 0)
        if not single:
            verdict.add("G2", describe(_cycle(graph, first, everything)))


def _cycle(graph: _Graph, first: int, kinds: frozenset[str]) -> list[int]:
    for one in graph.next_of(first, kinds):
        back = graph.path(one, first, kinds)
        if back is not None:
            return [first, *back]
    return [first]
