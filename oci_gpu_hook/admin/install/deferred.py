"""Takes functions that a usual start does not call out of their modules' byte code. No container's start imports this.

To read a function costs a start some 3 µs, and a third of them is for errors, other hosts and rarer wishes. Which
these are is in deferred.txt, and for commands in deferred-commands.txt: `module:function` or `module:class.function` a
line, written by benchmarks/deferred.py, which runs usual starts and commands. A function that is missing there costs a
start that time; one that is there for nothing costs a start that calls it 10 µs.
"""

from __future__ import annotations

import ast
import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Final

_HERE: Final = os.path.dirname(os.path.abspath(__file__))
LIST: Final = os.path.join(_HERE, "deferred.txt")
COMMANDS_LIST: Final = os.path.join(_HERE, "deferred-commands.txt")
_METHODS: Final = ("classmethod", "property", "staticmethod")


class Functions:
    """The functions that were taken out of their modules. data: all of them, as base/cpython/hotpath.py reads them.

    path: of the list of their names.
    """

    def __init__(self, path: str) -> None:
        with open(path) as file:
            self._names = frozenset(file.read().split())
        self.data = b""

    def take(self, tree: ast.Module, module: str, code: CodeType) -> list[tuple[list[ast.stmt], int, ast.FunctionDef]]:
        """Replace the module's deferred functions, in its syntax tree, by stand-ins; return each with its place there.

        code: the module's, with them.
        """
        codes = by_name(code)
        taken = [
            (body, place, function, codes[name])
            for body, place, name, function in functions_of(tree)
            if f"{module}:{name}" in self._names and is_possible(function, codes[name])
        ]
        for body, place, function, its_code in taken:
            body[place] = self._stand_in(function, module, its_code)
        return [(body, place, function) for body, place, function, _ in taken]

    def _stand_in(self, function: ast.FunctionDef, module: str, code: CodeType) -> ast.stmt:
        arguments = function.args
        named = {
            argument.arg: ast.literal_eval(value)
            for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if value
        }
        defaults = tuple(map(ast.literal_eval, arguments.defaults))
        data = marshal.dumps((module, code, defaults or None, named or None))
        text = f"__deferred__({len(self.data) << 20 | len(data)})"
        self.data += data
        for decorator in reversed(function.decorator_list):
            text = f"{ast.unparse(decorator)}({text})"
        statement = ast.parse(f"{function.name} = {text}").body[0]
        return ast.increment_lineno(statement, function.lineno - 1)


def functions_of(
    tree: ast.Module | ast.ClassDef, of: str = ""
) -> Iterable[tuple[list[ast.stmt], int, str, ast.FunctionDef]]:
    """Yield the functions of a module and of its classes: the list of statements, the place in it, the name, itself."""
    for place, statement in enumerate(tree.body):
        if isinstance(statement, ast.ClassDef):
            yield from functions_of(statement, f"{of}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef):
            yield tree.body, place, of + statement.name, statement


def by_name(code: CodeType) -> dict[str, CodeType]:
    """Return the code of all functions and classes in a code by their qualified names."""
    found: dict[str, CodeType] = {}
    for each in code.co_consts:
        if isinstance(each, type(code)):
            found |= {each.co_qualname: each, **by_name(each)}
    return found


def is_possible(function: ast.FunctionDef, code: CodeType) -> bool:
    """Tell whether a stand-in means the same.

    Not where Python looks for a function itself (`__new__`), nor where what it closes over or its defaults must be
    worked out in its module.
    """
    defaults = (*function.args.defaults, *filter(None, function.args.kw_defaults))
    return (
        not function.name.startswith("__")
        and not code.co_freevars
        and all(isinstance(each, ast.Name) and each.id in _METHODS for each in function.decorator_list)
        and all(isinstance(each, ast.Constant) for each in defaults)
    )
