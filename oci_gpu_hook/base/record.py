"""Frozen, typed values without the price of dataclasses.

Ten frozen dataclasses add twice the cost of the bare interpreter to every container's start; ten Records add a
fortieth of it. Type checkers see them as dataclasses (PEP 681).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN201
        """Do nothing at run time; type checkers read the decoration."""
        return lambda cls: cls


_new = object.__new__
_set = object.__setattr__


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """Keyword-only and immutable; the class annotations are the fields, the class attributes their defaults."""

    def __init__(self, **fields: object) -> None:
        cls = type(self)
        names = cls.__annotations__
        for name in names:
            if name not in fields:
                fields[name] = getattr(cls, name)  # AttributeError names the missing field
        if len(fields) > len(names):
            unknown = next(iter(fields.keys() - names.keys()))
            raise TypeError(f"{cls.__name__}: unknown field {unknown!r}")
        self.__dict__.update(fields)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return the record that has just these fields, which must be all and are its own from now on.

        Nothing is checked: for where a hundred constructors would cost a start as much as all the rest.
        """
        made = _new(cls)
        _set(made, "__dict__", fields)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        # In the order of the class, not of the call: equal records are made in many ways.
        return hash((type(self), *(self.__dict__[name] for name in type(self).__annotations__)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"
