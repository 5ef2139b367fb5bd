"""Frozen, typed values that are cheap to define at each start.

Ten frozen dataclasses add three times the cost of the bare interpreter to every container's start; ten Records add less
than a fifth of it (docs/decisions/0010-records-not-dataclasses.md). Type checkers see them as dataclasses (PEP 681).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN201
        """Do nothing at run time; type checkers read the decoration."""
        return lambda cls: cls


_new = object.__new__
_set = object.__setattr__


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A keyword-only, immutable value: class annotations are its fields, class attributes their defaults.

    A subclass of a record has the fields of its parent first, then its own. A record never changes after it was made,
    and no code may change its `__dict__`.
    """

    def __init__(self, **fields: object) -> None:
        cls = type(self)
        names = _fields_of(cls)
        for name in names:
            if name not in fields:
                fields[name] = getattr(cls, name)  # AttributeError names the missing field
        if len(fields) > len(names):
            raise _unknown(cls, fields)
        self.__dict__.update(fields)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return a record that takes over the dict `fields`, which must hold every field.

        Nothing is checked. This is for places where a hundred constructor calls would cost a start as much as all else.
        """
        made = _new(cls)
        _set(made, "__dict__", fields)
        return made

    def replace(self, **changes: Any) -> Self:
        """Return a copy of this record with the given fields changed. Raises TypeError for an unknown field."""
        fields = {**self.__dict__, **changes}
        if len(fields) > len(self.__dict__):
            raise _unknown(type(self), changes)
        return type(self).of(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        # In the class's order, not the call's, so that equal records have equal representations.
        return hash((type(self), *(self.__dict__[name] for name in _fields_of(type(self)))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


def _fields_of(cls: type[Record]) -> Mapping[str, object]:
    """Return the fields of a record class by name, those of its parents first."""
    if cls.__base__ is Record:  # true of nearly all records, and a start makes hundreds
        return cls.__annotations__
    found: dict[str, object] = {}
    for each in reversed(cls.__mro__[: cls.__mro__.index(Record)]):
        found.update(each.__annotations__)
    return found


def _unknown(cls: type[Record], fields: Mapping[str, object]) -> TypeError:
    name = next(name for name in fields if name not in _fields_of(cls))
    return TypeError(f"{cls.__name__}: unknown field {name!r}")
