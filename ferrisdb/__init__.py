"""FerrisDB: a transactional, ordered key-value database for many processes on one host."""

__version__ = "0.1.0"
