"""A certificate for localhost that signs itself, and its key: for tests of TLS alone.

Made by: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
-subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1"
"""

from __future__ import annotations

from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUFONhbZZISQowTppDNpay21xL4qAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTAzMDc1N1oYDzIxMjYxMTAx
MDMwNzU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASVUivXGBWpl38R12uhskXAEJar0ohnltVd7QjYG0cZMgX2gbnZbN/0
Mf9HmlbE22bOpaWvP9JmeF0B/nNqE4xqo28wbTAdBgNVHQ4EFgQUsUyQNElV4Dql
O6YypGYIYFLnedMwHwYDVR0jBBgwFoAUsUyQNElV4DqlO6YypGYIYFLnedMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAM5IPb1Y9BeJ4rHdIQ0uj45/VSnF7+1g6fjNx6+OmVVRAiAN
X1ho7HrYMkop3OmdLN8kwfhcOFdj4tpfAUeB4ADI5g==
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFwTB6KKDl8Kv1jyh
cTQp26y9mS9e1T6tBstoBSGBKzKhRANCAASVUivXGBWpl38R12uhskXAEJar0ohn
ltVd7QjYG0cZMgX2gbnZbN/0Mf9HmlbE22bOpaWvP9JmeF0B/nNqE4xq
-----END PRIVATE KEY-----
"""


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """Write both into files; returns their paths, the certificate's first."""
    paths = directory / "cert.pem", directory / "key.pem"
    for path, text in zip(paths, (CERTIFICATE, KEY), strict=True):
        path.write_text(text)
        path.chmod(0o600)
    return paths
