"""What bytes on disk mean: headers, WAL files, SSTables, the MANIFEST."""
