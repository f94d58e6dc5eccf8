class Source:
    """A position among entries in key order; subclasses move it. Nothing of it is for Python."""
