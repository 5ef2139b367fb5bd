"""What an installed executable does when this package was removed and it was not: the end of its stub.

Engines still call it, and running containers need it to be stopped and removed. So whatever asks for no GPU goes on as
if the executable were not there, and what asks for one is refused with a line that says what to do.
"""

from __future__ import annotations

from textwrap import indent

from oci_gpu_hook.entrypoints.runtime_call import FOR_FRONT
from oci_gpu_hook.request.prefilter import WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_INSIDE: Final = " " * 4
_SAID: Final = """\
what = "{name}: error: oci-gpu-hook was removed: its package is not in {package} any more; "
what += "install it again and run `oci-gpu hook-path`, or take {name} out of the engine's configuration [OGH1810]"
"""
_ASKS: Final = """\
def asks(bundle, state=b""):  # as request/prefilter.py has it, but for JSON escapes
    try:
        with open(bundle + "/config.json", "rb") as file:
            state += file.read()
    except OSError:
        return True
    return any(word in state for word in {words})
"""
_HOOK: Final = """\
import json
if sys.argv[-1] == "poststop":
    sys.exit(0)
state = sys.stdin.buffer.read()
try:
    bundle = str(json.loads(state)["bundle"])
except (ValueError, KeyError, TypeError):
    sys.exit(what)
sys.exit(what if asks(bundle, state) else 0)
"""
_RUNTIME: Final = """\
import json
words = sys.argv[1:]
front = words.pop(0) if words and words[0].startswith({option!r}) else ""
values = dict(zip(words, words[1:]))
bundle = values.get("--bundle") or values.get("-b") or "."
if not {{"create", "run"}} & {{*words}} or not asks(bundle):
    if front:
        posix.write(int(front.partition("=")[2]), b"0")
        sys.exit(0)
    posix.execv({runtime}, [{runtime}, *words])
try:
    with open(values["--log"], "a") as file:
        file.write(json.dumps({{"level": "error", "msg": what, "time": ""}}) + "\\n")
except (KeyError, OSError):
    pass
sys.exit(what)
"""


def text(module: str, package: str, real_runtime: str) -> str:
    """Return the statements for the stub of an entry point, indented; they end the process."""
    name = {"entrypoints.hook": "oci-gpu-hook", "entrypoints.runtime": "oci-gpu-runtime"}.get(module, "oci-gpu-hook")
    parts = [_SAID.format(name=name, package=_plain(package))]
    if module == "entrypoints.hook":
        parts += [_ASKS.format(words=WORDS), _HOOK]
    elif module == "entrypoints.runtime":
        parts += [_ASKS.format(words=WORDS), _RUNTIME.format(runtime=ascii(real_runtime), option=FOR_FRONT)]
    else:
        parts.append("sys.exit(what)\n")
    return indent("".join(parts), _INSIDE).rstrip("\n")


def _plain(path: str) -> str:
    """Return a path as it can stand in a string of the stub, in ASCII and without quotation marks."""
    return ascii(path)[1:-1].replace('"', '\\"')
