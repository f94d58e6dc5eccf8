"""What the shared words mean: who owns each, who reads it, and with which memory order."""

if __name__ != "ferrisdb.shm":
    raise ImportError(f"import this package as ferrisdb.shm, not as {__name__}")
