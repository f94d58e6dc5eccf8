"""Which table, which version, in which order: commits, reads at a snapshot, flush, recovery."""
