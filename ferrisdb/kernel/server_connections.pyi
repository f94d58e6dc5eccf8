from ferrisdb.kernel.client import Attachment
from ferrisdb.kernel.serving import Handler

FULL: bytes

class Connections:
    @property
    def attached(self) -> Attachment: ...
    @property
    def handler(self) -> Handler: ...
