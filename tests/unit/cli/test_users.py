"""Goal: `ferrisdb users` keeps users.toml, and takes passwords from nowhere but standard input.

Method: the command in this process, on a directory of its own.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ferrisdb.cli.app import run
from ferrisdb.exit_codes import ExitCode
from ferrisdb.resp.passwords import verify_password
from ferrisdb.resp.users import User, load_users


class Input(io.TextIOWrapper):
    """A standard input that is no terminal."""

    def __init__(self, text: bytes) -> None:
        super().__init__(io.BytesIO(text))


def users(monkeypatch: pytest.MonkeyPatch, directory: Path, *words: str, stdin: bytes = b"") -> int:
    monkeypatch.setattr(sys, "stdin", Input(stdin))
    return run(["users", str(directory), *words])


def test_users_are_added_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--read-only", "--admin", "--key-prefix", "a:"]
    assert users(monkeypatch, tmp_path, "add", "alice", *flags, stdin=b"secret\nmore\n") == 0
    assert users(monkeypatch, tmp_path, "add", "default", "--no-password") == 0
    found = load_users(str(tmp_path)).by_name
    held = found["alice"].password
    assert found["alice"] == User("alice", held, True, True, b"a:")
    assert verify_password(b"secret", held)
    assert found["default"] == User("default")
    assert users(monkeypatch, tmp_path, "list") == 0
    shown = capsys.readouterr().out
    assert shown == "alice read_only admin key_prefix=a:\ndefault no_password\n"
    assert users(monkeypatch, tmp_path, "remove", "alice") == 0
    assert list(load_users(str(tmp_path)).by_name) == ["default"]


def test_what_can_not_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str, stdin: bytes = b"secret\n") -> str:
        code = users(monkeypatch, tmp_path, *words, stdin=stdin)
        assert code in (ExitCode.USAGE, ExitCode.ABSENT)
        return capsys.readouterr().err

    assert users(monkeypatch, tmp_path, "add", "bob", stdin=b"secret") == 0
    assert "use --replace" in refused("add", "bob")
    assert users(monkeypatch, tmp_path, "add", "bob", "--replace", stdin=b"other\r\n") == 0
    assert verify_password(b"other", load_users(str(tmp_path)).by_name["bob"].password)
    assert "is no name of a user" in refused("add", "two words")
    assert "a password has 1 to" in refused("add", "carl", stdin=b"\n")
    assert "no user 'carl'" in refused("remove", "carl")
    assert "Missing command" in refused()
    assert list(load_users(str(tmp_path)).by_name) == ["bob"]
