"""Goal: users.toml is read and written as it says, and nothing odd in it lets anybody in.

Method: real files; passwords are hashed with small parameters, but once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferrisdb.errors import AccessError, UsageError
from ferrisdb.resp import all_commands
from ferrisdb.resp.command import COMMANDS
from ferrisdb.resp.passwords import hash_password, verify_password
from ferrisdb.resp.users import User, is_current, load_users, save_users
from ferrisdb.seams import RealFileSystem, RealRng

CHEAP = (2, 1, 1)

assert all_commands.MODULES


def write(directory: Path, text: str, mode: int = 0o600) -> None:
    path = directory / "users.toml"
    path.write_text(text)
    path.chmod(mode)


def test_users_come_back_as_they_were_written(tmp_path: Path) -> None:
    password = hash_password(b"secret", RealRng(), parameters=CHEAP)
    users = {
        "alice": User("alice", password, read_only=True, key_prefix='a"\\\té\U0001f600:'.encode()),
        "root": User("root", password, admin=True),
        "default": User("default"),
    }
    save_users(str(tmp_path), users, RealFileSystem())
    save_users(str(tmp_path), users, RealFileSystem())
    found = load_users(str(tmp_path))
    assert found.by_name == users
    assert found.has_password
    assert found.get(b"alice") == users["alice"]
    assert found.get(b"\xff") is None
    assert (tmp_path / "users.toml").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["users.toml"]


def test_without_a_file_there_is_nobody(tmp_path: Path) -> None:
    found = load_users(str(tmp_path))
    assert not found.by_name and not found.has_password
    assert is_current(str(tmp_path), found)
    write(tmp_path, '[users."a"]\n')
    assert not is_current(str(tmp_path), found)
    assert not load_users(str(tmp_path)).has_password


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[users", "is not TOML"),
        ("[people.a]", r"nothing but tables \[users.NAME\]"),
        ("users = 1", r"nothing but tables \[users.NAME\]"),
        ("[users]\na = 1", "user 'a' is no table"),
        ('[users."a b"]', "'a b' is no name"),
        ('[users.a]\nadmin = "yes"', "admin is true or false"),
        ("[users.a]\nkey_prefix = 1", "key_prefix is a text"),
        ("[users.a]\nrights = 1", "no setting 'rights'"),
        ('[users.a]\npassword = "secret"', "stored as a hash"),
        ("[users.a]\npassword = 1", "password is a hash"),
        ('[users.a]\npassword = "scrypt$16777216$8$1$AAAA$AAAA"', "stored as a hash"),
        ('[users.a]\npassword = "scrypt$3$8$1$AAAA$AAAA"', "stored as a hash"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UsageError, match=message):
        load_users(str(tmp_path))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "", 0o640)
    with pytest.raises(AccessError, match="chmod 600"):
        load_users(str(tmp_path))


def test_a_password_is_verified_by_its_hash_alone() -> None:
    rng = RealRng()
    held = hash_password(b"secret", rng, parameters=CHEAP)
    assert held != hash_password(b"secret", rng, parameters=CHEAP)
    assert verify_password(b"secret", held)
    assert not verify_password(b"Secret", held)
    assert not verify_password(b"", held)
    assert not verify_password(b"x" * 5000, held)
    with pytest.raises(UsageError, match="1 to 1024 bytes"):
        hash_password(b"", rng)


def test_by_default_a_hash_is_slow_enough_and_verifies() -> None:
    held = hash_password(b"secret", RealRng())
    assert held.startswith("scrypt$16384$8$5$")
    assert verify_password(b"secret", held)
    assert not verify_password(b"secret", None)


@pytest.mark.parametrize(
    ("user", "line", "refused"),
    [
        (User("u"), "SET a 1", b""),
        (User("u"), "FLUSHALL", b"run the 'flushall' command"),
        (User("u"), "CONFIG GET save", b"run the 'config|get' command"),
        (User("u"), "CLIENT KILL ID 1", b"run the 'client|kill' command"),
        (User("u"), "CLIENT LIST", b""),
        (User("u"), "DEBUG SLEEP 1", b"run the 'debug' command"),
        (User("u"), "SHUTDOWN", b"run the 'shutdown' command"),
        (User("u", admin=True), "SHUTDOWN", b""),
        (User("u", admin=True), "FLUSHDB", b""),
        (User("u", read_only=True), "GET a", b""),
        (User("u", read_only=True), "SET a 1", b"run the 'set' command"),
        (User("u", read_only=True), "FERRIS.DELRANGE a b", b"run the 'ferris.delrange' command"),
        (User("u", read_only=True, admin=True), "FLUSHALL", b"run the 'flushall' command"),
        (User("u", key_prefix=b"a:"), "MSET a:1 1 a:2 2", b""),
        (User("u", key_prefix=b"a:"), "MSET a:1 1 b:2 2", b"access one of the keys"),
        (User("u", key_prefix=b"a:"), "GET a", b"access one of the keys"),
        (User("u", key_prefix=b"a:"), "COPY a:1 b", b"access one of the keys"),
        (User("u", key_prefix=b"a:"), "OBJECT ENCODING b", b"access one of the keys"),
        (User("u", key_prefix=b"a:"), "WATCH a:1 b", b"access one of the keys"),
        (User("u", key_prefix=b"a:"), "KEYS *", b""),
        (User("u", key_prefix=b"a:"), "PING", b""),
    ],
)
def test_a_user_may_do_what_its_flags_say(user: User, line: str, refused: bytes) -> None:
    argv = [word.encode() for word in line.split()]
    command = COMMANDS[argv[0].lower()]
    command = command.subcommands.get(argv[1].lower(), command) if len(argv) > 1 else command
    why = user.refusal(command, argv)
    assert (why is None) if not refused else why is not None and refused in why
