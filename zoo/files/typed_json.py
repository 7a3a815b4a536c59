"""JSON as frozen dataclasses, and back: the fields of a class say which keys an object has.

    dataclass_of(Report, value)   a parsed JSON value as dataclass; `ValueError` if it does not fit
    json_of(report)               what `json.dumps` takes

Keys stand in the order of the fields. A field with a default of None may be missing in the file,
and is not written while it is None. Keys that the class does not know are passed over, so that a
newer program may add some.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from zoo.files import checks

T = TypeVar("T")
LARGEST = 10**9
"""Counts are whole numbers from 0 to this one."""
INLINE: Mapping[str, Any] = {"inline": True}
"""Metadata of a field whose own keys stand beside those of its owner, not in an object."""


def named(key: str) -> Mapping[str, Any]:
    """Metadata of a field that has another name in the file, such as `class`."""
    return {"key": key}


def dataclass_of(kind: type[T], value: Any) -> T:
    """A JSON value as a dataclass; `ValueError` names the field that is missing or different."""
    return _reader(kind)(value)  # type: ignore[no-any-return, arg-type]


def json_of(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists; every other value as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(_written(value))
    if isinstance(value, Mapping):
        return {key: json_of(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return list(map(json_of, value))
    return value


def _written(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if field.metadata.get("inline"):
            yield from _written(content)
        elif content is not None or not _may_be_missing(field):
            yield _key(field), json_of(content)


def _key(field: Any) -> str:
    return str(field.metadata.get("key", field.name))


def _may_be_missing(field: Any) -> bool:
    return field.default is None


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What reads one value of a type."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if dataclasses.is_dataclass(kind):
        return _object_reader(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(inner)
    if origin is tuple:
        return _list_reader(inner)
    # what is left is a mapping; any other type in a dataclass is our mistake, not the file's
    assert origin is Mapping or origin is dict or issubclass(origin, Mapping), kind
    of_value = _reader(inner[1])
    return lambda value: {
        checks.text(key, most=LARGEST): of_value(part)
        for key, part in checks.mapping(value).items()
    }


def _number(value: Any) -> int | float:
    """A finite number, as it stands in the file."""
    checks.number(value)
    return value  # type: ignore[no-any-return]


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, seen {checks.seen(value)}")
    return value


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    str: checks.text,
    int: lambda value: checks.whole(value, 0, LARGEST),
    float: _number,
    bool: _truth,
}


def _optional_reader(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    # `X | None` is the only union that the contracts have
    (kind,) = set(kinds) - {type(None)}
    present = _reader(kind)
    return lambda value: None if value is None else present(value)


def _list_reader(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Of `tuple[X, ...]`, or of `tuple[X, X]`, whose length is part of the type."""
    of_part, length = _reader(kinds[0]), None if kinds[-1] is ... else len(kinds)

    def read_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or length not in (None, len(value)):
            wanted = "a list" if length is None else f"a list of {length}"
            raise ValueError(f"expected {wanted}, seen {checks.seen(value)}")
        return tuple(map(of_part, value))

    return read_list


def _object_reader(kind: Any) -> Callable[[Any], Any]:
    # once for each class, not for each value: to resolve annotations is slow
    hints = typing.get_type_hints(kind)
    parts = [(field, _reader(hints[field.name])) for field in dataclasses.fields(kind)]

    def read_object(value: Any) -> Any:
        content, found = checks.mapping(value), {}
        for field, read_part in parts:
            key = _key(field)
            if field.metadata.get("inline"):
                found[field.name] = read_part(content)
            elif key in content:
                found[field.name] = _read_at(key, read_part, content[key])
            elif not _may_be_missing(field):
                raise ValueError(f"expected the key {key}, seen {checks.seen(list(content))}")
        return kind(**found)

    return read_object


def _read_at(key: str, read_part: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read_part(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
