"""The one file of modules: it saves the search, changes nothing, and is passed over when a source is newer."""

from __future__ import annotations

import ast
import importlib
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

import oci_gpu_hook
from oci_gpu_hook.admin.install import hotpath_build

DOOR = '''"""Says something."""
from __future__ import annotations
TYPE_CHECKING = False
if TYPE_CHECKING:
    from nowhere import Nothing
from demo_package.oci_gpu_hook_part import VALUE
LIMIT: Nothing = 3
def main(first: Nothing, *rest: Nothing, key: Nothing = None) -> Nothing:
    """Add."""
    local: Nothing = VALUE
    return local + LIMIT + len(rest)
'''


@pytest.fixture
def package(tmp_path):
    home = tmp_path / "site" / "oci_gpu_hook"
    (home / "apply").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "apply" / "__init__.py").write_text("")
    (home / "apply" / "part.py").write_text("VALUE = 4\n")
    (home / "entrypoints").mkdir()
    (home / "entrypoints" / "__init__.py").write_text("")
    (home / "entrypoints" / "hook.py").write_text(
        DOOR.replace("demo_package.oci_gpu_hook_part", "oci_gpu_hook.apply.part")
    )
    return home


def start(package, modules, program, door="oci_gpu_hook.entrypoints.hook", redirected=""):
    text = (
        f"import marshal, posix, sys\nsys.path.append({str(package.parent)!r})\n"
        f"file = posix.open({str(modules)!r}, posix.O_RDONLY)\n"
        "size = int.from_bytes(posix.read(file, 8), 'little')\n"
        "head = marshal.loads(posix.read(file, size))\n"
        "exec(head[0], scope := {'__name__': 'oci_gpu_hook.base.cpython.hotpath'})\n"
        f"try:\n    scope['use'](file, 8 + size, head, {door!r})\n"
        "except EOFError:\n    print('not whole')\n"
        f"{program}\n"
    )
    command = ["sh", "-c", f'"$@" {redirected}', "sh", sys.executable, "-I", "-S", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_modules_come_out_of_the_file(package, tmp_path):
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    program = (
        "from oci_gpu_hook.entrypoints import hook; from oci_gpu_hook.apply import part; "
        "print(hook.main(1, 2, 3), part.__spec__, part.__file__)"
    )
    assert start(package, modules, program) == f"9 None {package}/apply/part.py"


def test_a_source_that_has_changed_is_imported_as_usual(package, tmp_path):
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    (package / "apply" / "part.py").write_text("VALUE = 50\n")
    assert start(package, modules, "from oci_gpu_hook.entrypoints import hook; print(hook.main(1))") == "53"


def test_a_file_that_is_not_whole_is_passed_over(package, tmp_path):
    """What is missing may be what takes back a failed start, which nothing else would read."""
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    os.truncate(modules, modules.stat().st_size - 1)
    program = "from oci_gpu_hook.entrypoints import hook; print(hook.main(1), type(hook.__loader__).__name__)"
    assert start(package, modules, program).splitlines() == ["not whole", "7 SourceFileLoader"]


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_file_does_not_stay_in_place_of_a_standard_descriptor(package, tmp_path, redirected):
    """There the state would be read from it, or a message written to it."""
    modules, told = tmp_path / "modules", tmp_path / "told"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    program = (
        "import os\nopen_ones = [path for path in map('/proc/self/fd/{}'.format, range(3)) if os.path.lexists(path)]\n"
        "links = [os.readlink(path) for path in open_ones]\n"
        f"from oci_gpu_hook.entrypoints import hook\nopen({str(told)!r}, 'w').write(f'{{hook.main(1)}} {{links}}')"
    )
    start(package, modules, program, redirected=redirected)
    assert told.read_text().startswith("7 ")
    assert str(modules) not in told.read_text()


def test_installed_code_changes_as_a_whole(package, tmp_path):
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook", is_checkout=False)
    program = "from oci_gpu_hook.entrypoints import hook; print(hook.main(1))"
    (package / "apply" / "part.py").write_text("VALUE = 50\n")
    assert start(package, modules, program) == "7"
    (package / "__init__.py").write_text("# another version\n")
    assert start(package, modules, program) == "53"


def test_a_source_that_has_gone_is_imported_as_usual(package, tmp_path):
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    (package / "apply" / "part.py").unlink()
    program = (
        "try:\n    import oci_gpu_hook.entrypoints.hook\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    )
    assert start(package, modules, program) == "oci_gpu_hook.apply.part"


def test_lean_code_has_neither_docstrings_nor_annotations(package):
    code = hotpath_build.compiled(str(package / "entrypoints" / "hook.py"), str(package))
    assert code
    scope = {"__name__": "lean", "__linked__": importlib.import_module}
    with pytest.raises(ModuleNotFoundError):
        exec(code, scope)  # imports what the other file has
    names = [name for constant in code.co_consts if hasattr(constant, "co_names") for name in constant.co_names]
    assert "Nothing" not in code.co_names
    assert "Nothing" not in names


def test_every_hot_module_is_lean_without_a_change_of_meaning():
    package = os.path.dirname(os.path.abspath(oci_gpu_hook.__file__))
    for name in ("base/record.py", "oci/container.py", "request/model.py", "devices/edits.py"):
        source = os.path.join(package, name)
        with open(source) as file:
            tree = hotpath_build._Lean().visit(ast.parse(file.read()))
        fields = fields_of(tree)
        with open(source) as file:
            whole = ast.parse(file.read())
        assert fields == fields_of(whole)


def fields_of(tree):
    classes = [statement for statement in tree.body if isinstance(statement, ast.ClassDef)]
    return [ast.unparse(s.target) for each in classes for s in each.body if isinstance(s, ast.AnnAssign)]


def test_linked_modules_are_those_that_imports_would_find(package, tmp_path):
    (package / "apply" / "other.py").write_text(
        "from oci_gpu_hook.apply import part\nfrom oci_gpu_hook.apply.part import VALUE as value, VALUE\n"
    )
    (package / "entrypoints" / "hook.py").write_text(
        "from oci_gpu_hook.apply import other as renamed\nmain = renamed\n"
    )
    modules = tmp_path / "modules"
    hotpath_build.write(str(modules), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    program = (
        "from oci_gpu_hook.entrypoints import hook; import oci_gpu_hook.apply.part as part; other = hook.main; "
        "print(other.part is part, other.value, other.VALUE, hook.renamed.__name__)"
    )
    assert start(package, modules, program) == "True 4 4 oci_gpu_hook.apply.other"


def test_a_linked_module_has_the_line_of_its_import(package):
    (package / "entrypoints" / "hook.py").write_text("\n\nfrom oci_gpu_hook.apply.part import VALUE\n")
    code = hotpath_build.compiled(str(package / "entrypoints" / "hook.py"), str(package))
    assert code
    assert {line for _, _, line in code.co_lines() if line} == {3}


PACKAGE = Path(oci_gpu_hook.__file__).parent


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The file of the hook as it is installed."""
    path = tmp_path_factory.mktemp("hotpath") / "modules"
    hotpath_build.write(str(path), sys.executable, str(PACKAGE), "oci_gpu_hook.entrypoints.hook", is_checkout=False)
    return path


@pytest.mark.parametrize("head", hotpath_build.HEADS)
def test_each_group_can_be_the_first_one_that_is_needed(modules, head):
    """A container's start does not import what only its end does, and the other way round."""
    program = f"import {head} as head; print(type(head.__spec__.loader).__name__)"
    assert start(PACKAGE, modules, program) == "Finder"


@pytest.fixture(scope="module")
def of_commands(tmp_path_factory):
    """The file of `oci-gpu` as it is installed."""
    path = tmp_path_factory.mktemp("hotpath") / "modules"
    door, heads = "oci_gpu_hook.admin.cli.main", hotpath_build.COMMANDS
    hotpath_build.write(str(path), sys.executable, str(PACKAGE), door, heads, is_checkout=False)
    return path


@pytest.mark.parametrize("head", hotpath_build.COMMANDS)
def test_a_command_that_is_not_measured_imports_what_the_others_do(of_commands, head):
    """`verify` imports what is else imported after `attach` or `detach` alone, whose group then is without it."""
    program = f"import {head} as head; print(head.__name__)"
    assert start(PACKAGE, of_commands, program, "oci_gpu_hook.admin.cli.main") == head


@pytest.mark.parametrize("head", [head for head, before in hotpath_build.HEADS.items() if len(before) < 5])
def test_each_group_brings_what_it_needs(modules, head):
    """All but those of a start's rarer wants: nothing is searched for, wherever a group is wanted first."""
    program = (
        f"import {head}\n"
        "own = [each for name, each in sys.modules.items() if name.split('.')[0] == 'oci_gpu_hook']\n"
        "loaders = {type(each.__spec__.loader).__name__ for each in own if each.__spec__}\n"
        "print(*sorted(loaders))"
    )
    assert start(PACKAGE, modules, program) == "Finder"


@pytest.mark.parametrize(
    ("door", "heads"),
    [("entrypoints.hook", hotpath_build.HEADS), ("admin.cli.main", hotpath_build.COMMANDS)],
    ids=["hook", "oci-gpu"],
)
def test_each_group_has_its_head(tmp_path, door, heads):
    """Whoever imports a head imports its group; if the modules before had imported it, there would be nothing there."""
    path = tmp_path / "modules"
    hotpath_build.write(str(path), sys.executable, str(PACKAGE), f"oci_gpu_hook.{door}", heads, is_checkout=False)
    data = path.read_bytes()
    first = 8 + int.from_bytes(data[:8], "little")
    index = marshal.loads(data[8:first])[2]
    groups = {head: marshal.loads(data[first + at : first + at + size])[1] for head, (at, size, _) in index.items()}
    assert [head for head, group in groups.items() if head not in [module for module, *_ in group]] == []


def test_no_group_of_a_start_is_as_large_as_what_malloc_maps(modules):
    data = modules.read_bytes()
    size = int.from_bytes(data[:8], "little")
    index = marshal.loads(data[8 : 8 + size])[2]
    read = ["oci_gpu_hook.entrypoints.hook", "oci_gpu_hook.request.nvidia.words", "oci_gpu_hook.devices.nvidia.vendor"]
    read += [*hotpath_build._START, "oci_gpu_hook.lifecycle.teardown", "oci_gpu_hook.allocation.release"]
    assert {head: index[head][1] for head in read if index[head][1] >= 128 << 10} == {}
