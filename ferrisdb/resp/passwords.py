"""Hash passwords with scrypt, slowly on purpose, and verify them.

A hash is a text that carries all that verifying takes: `scrypt$N$R$P$SALT$HASH`, the last two in
Base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from ferrisdb.errors import UsageError
from ferrisdb.seams import Rng

PASSWORD_BYTES_MAX: Final = 1024

_SCRYPT: Final = (1 << 14, 8, 5)
"""n, r, p: 16 MiB; one of the settings that OWASP recommends (2024)."""

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY_BYTES_MAX: Final = 256 << 20


def hash_password(password: bytes, rng: Rng, *, parameters: tuple[int, int, int] = _SCRYPT) -> str:
    """Return the hash of a password, with all that verifying it takes.

    Raises:  UsageError, the password is empty or too long.
    Cost:    a tenth of a second or more, on purpose.
    """
    if not 0 < len(password) <= PASSWORD_BYTES_MAX:
        raise UsageError(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes")
    salt = rng.bytes(_SALT_BYTES)
    found = _scrypt(password, salt, *parameters)
    numbers = "$".join(map(str, parameters))
    return f"scrypt${numbers}${_encode(salt)}${_encode(found)}"


def verify_password(password: bytes, held: str | None) -> bool:
    """Tell whether a password is the one of a hash; as slow without a hash, which none matches."""
    n, r, p, salt, wanted = _parameters(held or _NOBODY)
    is_right = hmac.compare_digest(_scrypt(password[:PASSWORD_BYTES_MAX], salt, n, r, p), wanted)
    return is_right and held is not None and len(password) <= PASSWORD_BYTES_MAX


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES_MAX, dklen=_HASH_BYTES
    )


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


_NOBODY: Final = "$".join(["scrypt", *map(str, _SCRYPT), _encode(bytes(16)), _encode(bytes(32))])


def check_hash(held: str) -> None:
    """Raise UsageError if a text is no hash of ours."""
    _parameters(held)


def _parameters(held: str) -> tuple[int, int, int, bytes, bytes]:
    """Take a hash apart.

    Raises:  UsageError, it is none of ours.
    """
    try:
        kind, *words, salt, wanted = held.split("$")
        n, r, p = (int(word) for word in words)
        found = n, r, p, base64.b64decode(salt, validate=True), base64.b64decode(wanted)
        is_power = n > 1 and n & (n - 1) == 0
        fits = r > 0 and 0 < p <= 16 and 128 * n * r <= _MEMORY_BYTES_MAX // 2
        if kind == "scrypt" and is_power and fits and len(found[4]) == _HASH_BYTES:
            return found
    except (ValueError, binascii.Error):
        pass
    raise UsageError("a password is stored as a hash: make it by `ferrisdb users DIR add`")
