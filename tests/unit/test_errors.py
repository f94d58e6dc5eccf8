"""Goal: errors cross processes and versions unharmed. Method: walk every class."""

from __future__ import annotations

import pickle

import pytest

from ferrisdb import errors


def _all_errors() -> list[type[errors.Error]]:
    found = [errors.Error]
    for kind in found:
        found += kind.__subclasses__()
    return found


def _example(kind: type[errors.Error]) -> errors.Error:
    if issubclass(kind, errors.CorruptionError):
        return kind("data/000012.wal", 4096, "checksum 1", "checksum 2", "run repair")
    return kind("the message")


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_error_survives_pickling(kind: type[errors.Error]) -> None:
    error = _example(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.args == error.args
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_wire_codes_are_unique_and_complete() -> None:
    kinds = _all_errors()
    assert len({kind.wire_code for kind in kinds}) == len(kinds)
    assert errors.by_wire_code() == {kind.wire_code: kind for kind in kinds}


def test_every_error_is_one_of_ours_and_says_what_it_means() -> None:
    for kind in _all_errors():
        assert issubclass(kind, errors.Error)
        assert kind.__doc__ and kind.__doc__.rstrip().endswith(".")


def test_storage_errors_are_os_errors_too() -> None:
    assert issubclass(errors.DiskFullError, OSError)
    assert issubclass(errors.WrongTypeError, TypeError)
