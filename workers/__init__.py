"""Process mains: the coordinator, the compactor, and the loop that supervises them."""

if __name__ != "ferrisdb.workers":
    raise ImportError(f"import this package as ferrisdb.workers, not as {__name__}")
