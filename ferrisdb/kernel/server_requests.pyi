from ferrisdb.kernel.server_hot import HotCommands

INTERNAL_ERROR: bytes

class Requests(HotCommands): ...
