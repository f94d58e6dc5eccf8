"""What COMMAND says of each command beside what its declaration has.

A line is: name, group, since which version of Redis (of FerrisDB for its own), categories of ACL
beside those that its flags imply ("." is the group's own, "-" none), flags of its keys (one group
for each range of keys, "-" without any), tips for clients and proxies.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_TIPS: Final = {
    "unstable": "nondeterministic_output",
    "unordered": "nondeterministic_output_order",
    "all": "request_policy:all_shards",
    "nodes": "request_policy:all_nodes",
    "multi": "request_policy:multi_shard",
    "special": "request_policy:special",
    "succeeded": "response_policy:all_succeeded",
    "sum": "response_policy:agg_sum",
    "min": "response_policy:agg_min",
    "unlike": "response_policy:special",
}
"""Tips by the short names that the table has for them."""

_TABLE: Final = """\
ping connection 1.0.0 . - all succeeded
echo connection 1.0.0 . -
select connection 1.0.0 . -
quit connection 1.0.0 . -
reset connection 6.2.0 . -
auth connection 1.0.0 . -
hello connection 6.0.0 . -
client connection 2.4.0 - -
client|id connection 5.0.0 . -
client|getname connection 2.6.9 . -
client|setname connection 2.6.9 . -
client|reply connection 3.2.0 . -
client|no-evict connection 7.0.0 . -
client|info connection 6.2.0 . - unstable
client|list connection 2.4.0 . - unstable
client|kill connection 2.4.0 . -
client|help connection 5.0.0 . -
command server 2.8.13 connection - unordered
command|count server 2.8.13 connection -
command|docs server 7.0.0 connection - unordered
command|info server 2.8.13 connection - unordered
command|list server 7.0.0 connection - unordered
command|getkeys server 2.8.13 connection -
command|getkeysandflags server 7.0.0 connection -
command|help server 5.0.0 connection -
info server 1.0.0 dangerous - unstable all unlike
config server 2.0.0 - -
config|get server 2.0.0 - -
config|set server 2.0.0 - - nodes succeeded
config|resetstat server 2.0.0 - -
config|help server 5.0.0 - -
dbsize server 1.0.0 keyspace - all sum
time server 2.6.0 - - unstable
debug server 1.0.0 - -
lastsave server 1.0.0 admin,dangerous - unstable
memory server 4.0.0 - -
memory|usage server 4.0.0 - RO
memory|help server 4.0.0 - -
object generic 2.2.3 - -
object|encoding generic 2.2.3 . RO unstable
object|freq generic 4.0.0 . RO unstable
object|idletime generic 2.2.3 . RO unstable
object|refcount generic 2.2.3 . RO unstable
object|help generic 6.2.0 . -
get string 1.0.0 . RO,access
set string 1.0.0 . RW,access,update,variable_flags
getex string 6.2.0 . RW,access,update
getdel string 6.2.0 . RW,access,delete
getset string 1.0.0 . RW,access,update
setnx string 1.0.0 . OW,insert
setex string 2.0.0 . OW,update
psetex string 2.6.0 . OW,update
mget string 1.0.0 . RO,access multi
mset string 1.0.1 . OW,update multi succeeded
msetnx string 1.0.1 . OW,insert multi min
append string 2.0.0 . RW,insert
strlen string 2.2.0 . RO
getrange string 2.4.0 . RO,access
substr string 1.0.0 . RO,access
setrange string 2.2.0 . RW,update
setbit bitmap 2.2.0 . RW,access,update
getbit bitmap 2.2.0 . RO,access
bitcount bitmap 2.6.0 . RO,access
bitpos bitmap 2.8.7 . RO,access
lcs string 7.0.0 . RO,access
incr string 1.0.0 . RW,access,update
decr string 1.0.0 . RW,access,update
incrby string 1.0.0 . RW,access,update
decrby string 1.0.0 . RW,access,update
incrbyfloat string 2.6.0 . RW,access,update
del generic 1.0.0 . RM,delete multi sum
unlink generic 4.0.0 . RM,delete multi sum
exists generic 1.0.0 . RO multi sum
touch generic 3.2.1 . RO multi sum
type generic 1.0.0 . RO
rename generic 1.0.0 . RW,access,delete;OW,update
renamenx generic 1.0.0 . RW,access,delete;OW,insert
copy generic 6.2.0 . RO,access;OW,update
randomkey generic 1.0.0 . - all unstable
keys generic 1.0.0 keyspace,dangerous - all unordered
scan generic 2.8.0 . - unstable special
expire generic 1.0.0 . RW,update
pexpire generic 2.6.0 . RW,update
expireat generic 1.2.0 . RW,update
pexpireat generic 2.6.0 . RW,update
ttl generic 1.0.0 . RO,access unstable
pttl generic 2.6.0 . RO,access unstable
expiretime generic 7.0.0 . RO,access
pexpiretime generic 7.0.0 . RO,access
persist generic 2.2.0 . RW,update
flushdb server 1.0.0 keyspace,dangerous - all succeeded
flushall server 1.0.0 keyspace,dangerous - all succeeded
multi transactions 1.2.0 . -
exec transactions 1.2.0 . -
discard transactions 2.0.0 . -
watch transactions 2.2.0 . RO
unwatch transactions 2.2.0 . -
wait generic 3.0.0 connection - all min
shutdown server 1.0.0 - -
waitaof generic 7.2.0 connection - all min
client|setinfo connection 7.2.0 . - nodes succeeded
ferris.range generic 0.2.0 . - unstable
ferris.delrange generic 0.2.0 . -
ferris.cas string 0.2.0 . RW,access,update
ferris.stats server 0.2.0 - - unstable
ferris.durability connection 0.2.0 . -
"""

_GROUP_CATEGORY: Final = {
    "generic": "keyspace",
    "string": "string",
    "bitmap": "bitmap",
    "connection": "connection",
    "transactions": "transaction",
}

CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
"""All categories of Redis, in the order in which it names them."""


class Fact(NamedTuple):
    """What is known of one command. Shape: key_flags, for each range of keys."""

    group: str
    since: str
    categories: frozenset[str]
    key_flags: tuple[tuple[str, ...], ...]
    tips: tuple[str, ...]


def _fact(words: list[str]) -> Fact:
    group, since, categories, key_flags, *tips = words
    named = () if categories == "-" else tuple(categories.split(","))
    if categories == ".":
        named = (_GROUP_CATEGORY[group],)
    ranges = () if key_flags == "-" else tuple(key_flags.split(";"))
    return Fact(
        group,
        since,
        frozenset(named),
        tuple(tuple(one.split(",")) for one in ranges),
        tuple(_TIPS[tip] for tip in tips),
    )


FACTS: Final[dict[bytes, Fact]] = {
    line.split()[0].encode(): _fact(line.split()[1:]) for line in _TABLE.splitlines()
}
