from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.server_connections import Connections
from ferrisdb.kernel.serving import Token

NOT_AN_INTEGER: bytes
OVERFLOW: bytes
INTERNAL_ERROR: bytes

class Commits(Connections):
    def submit(
        self,
        token: Token,
        batch: BatchBuffer,
        durability: int,
        generation: int = 0,
        snapshot_seq: int = 0,
        checks: bytes = b"",
        expiry_us: int = 0,
    ) -> None: ...
