"""Print a script that makes a shell complete the words of `oci-gpu`."""

from __future__ import annotations

from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.base.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Final

    from oci_gpu_hook.admin.cli.outline import Argument, Command

_DIRECTORIES: Final = ("DIR", "BUNDLE")
_FILES: Final = ("FILE",)
_ALSO_BUNDLES: Final = ("plan", "request")  # whose CONTAINER may be a directory
_CONTAINERS: Final = ("CONTAINER", "CONTAINER|PID", "NAME|ID|PID", "NAME|ID")
_PRODUCT: Final = "PRODUCT"
_COMMAND_OR_CODE: Final = "COMMAND|CODE"
_LIST: Final = "oci-gpu completion containers 2>/dev/null"  # a line each, which no shell must take for more than a word
_BASH: Final = """\
# bash completion of oci-gpu, made by `oci-gpu completion bash`
_oci_gpu() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --config) ((i++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    _oci_gpu_containers() {
        local name
        while IFS= read -r name; do
            [[ $name == "$word"* ]] && COMPREPLY+=("$(printf %q "$name")")
        done < <(oci-gpu completion containers 2>/dev/null)
    }
    case $command:$before in
@VALUES@
    esac
    case $command in
@WORDS@
    esac
}
complete -F _oci_gpu oci-gpu
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "containers"), help="containers: those with GPUs")


def run(options: argparse.Namespace) -> int:
    """Print the script, or what the scripts ask: what containers with GPUs are called."""
    if options.shell == "containers":
        return _print_containers(options.config)
    from oci_gpu_hook.admin.cli import outline

    writers: dict[str, Callable[[Command], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
    print(writers[options.shell](outline.read()), end="")
    return 0


def _print_containers(path: str) -> int:
    from oci_gpu_hook.admin.cli import leases_picture
    from oci_gpu_hook.allocation import query
    from oci_gpu_hook.base.config import load as configs
    from oci_gpu_hook.oci.naming import short

    config = configs.of_this_user(configs.load(path))
    table = query.readable(config)
    known = leases_picture.census(table, config)
    for lease in table.leases:
        for name in filter(None, (known.of_lease(lease).name, short(lease.container))):
            print(one_line(name))
    return 0


def bash(top: Command) -> str:
    """Return the script for bash."""
    values: list[str] = []
    words: list[str] = []
    for command in (top, *top.below):
        for option in _options(command):
            if option.value:
                pattern = "|".join(f"{command.name or '*'}:{flag}" for flag in option.flags)
                found = "_oci_gpu_containers" if option.value in _CONTAINERS else f"COMPREPLY=({_bash_values(option)})"
                values.append(f"        {pattern}) {found}; return ;;")
        offered = [flag for option in _options(command) for flag in option.flags]
        offered += [below.name for below in command.below]
        offered += [choice for argument in _positional(command) for choice in _choices(argument)]
        line = f'COMPREPLY=($(compgen -W "{" ".join(offered)}" -- "$word"))'
        if kinds := {argument.value for argument in _positional(command)} & {*_DIRECTORIES, *_FILES}:
            flag = "-d" if kinds <= {*_DIRECTORIES} else "-f"
            line += f'; [[ $word == -* ]] || COMPREPLY+=($(compgen {flag} -- "$word"))'
        elif command.name in _ALSO_BUNDLES:
            line += '; [[ $word == -* ]] || COMPREPLY+=($(compgen -d -- "$word"))'
        if _takes_container(command):
            line += "; _oci_gpu_containers"
        words.append(f"        {command.name or chr(39) * 2}) {line} ;;")
    return _BASH.replace("@VALUES@", "\n".join(values)).replace("@WORDS@", "\n".join(words))


def zsh(top: Command) -> str:
    """Return the script for zsh: `#compdef` for a file in its fpath, and a call for one that is sourced."""
    lines = ["#compdef oci-gpu", "# made by `oci-gpu completion zsh`", "_oci-gpu() {", "    local state"]
    lines += ["    _arguments -C \\", *(f"        {_zsh(argument)} \\" for argument in top.options)]
    lines += ["        '1:command:->command' '*::argument:->argument'", "    case $state in", "    command)"]
    described = " ".join(_quote(f"{below.name}:{below.summary}") for below in top.below)
    lines += [f"        local -a commands=({described})", "        _describe command commands ;;", "    argument)"]
    lines += ["        case $words[1] in"]
    for command in top.below:
        specified = [_zsh(option) for option in _options(command)]
        if command.below:
            specified.append(_quote(f"1:action:({' '.join(each.name for each in command.below)})"))
        specified += [_zsh(argument, bundles=command.name in _ALSO_BUNDLES) for argument in _last(command)]
        lines.append(f"        {command.name}) _arguments {' '.join(specified)} ;;")
    lines += ["        esac ;;", "    esac", "}"]
    lines += ['if [ "$funcstack[1]" = _oci-gpu ]; then _oci-gpu "$@"; else compdef _oci-gpu oci-gpu; fi', ""]
    return "\n".join(lines)


def fish(top: Command) -> str:
    """Return the script for fish."""
    lines = ["# fish completion of oci-gpu, made by `oci-gpu completion fish`", "complete -c oci-gpu -f"]
    lines += [
        f"complete -c oci-gpu -n __fish_use_subcommand -a {below.name} -d {_quote(below.summary)}"
        for below in top.below
    ]
    lines += [_fish("__fish_use_subcommand", option) for option in top.options]
    for command in top.below:
        seen = _quote(f"__fish_seen_subcommand_from {command.name}")
        lines += [_fish(seen, option) for option in _options(command)]
        for argument in _positional(command):
            if choices := _choices(argument):
                lines.append(f"complete -c oci-gpu -n {seen} -a {_quote(' '.join(choices))}")
            elif argument.value in _DIRECTORIES:
                lines.append(f"complete -c oci-gpu -n {seen} -a '(__fish_complete_directories)'")
        if command.name in _ALSO_BUNDLES:
            lines.append(f"complete -c oci-gpu -n {seen} -a '(__fish_complete_directories)'")
        if _takes_container(command):
            lines.append(f"complete -c oci-gpu -n {seen} -a '({_LIST})'")
        lines += [
            f"complete -c oci-gpu -n {seen} -a {below.name} -d {_quote(below.summary)}" for below in command.below
        ]
    return "\n".join([*lines, ""])


def _options(command: Command) -> list[Argument]:
    """Return the options of a command and of those directly below it; of `oci-gpu`, its own."""
    below = command.below if command.name else ()
    return [*{option.flags: option for each in (*below, command) for option in each.options}.values()]


def _positional(command: Command) -> Iterator[Argument]:
    return (argument for argument in command.arguments if not argument.flags)


def _last(command: Command) -> list[Argument]:
    """Return what a command is told at the end of its line: its own arguments, or one of a command below it."""
    own = [*_positional(command)]
    below = [argument for each in command.below for argument in _positional(each)]
    return own or sorted(below, key=lambda argument: not _zsh_values(argument))[:1]


def _takes_container(command: Command) -> bool:
    """Tell whether a command, or one directly below it, is told a container."""
    return any(argument.value in _CONTAINERS for each in (command, *command.below) for argument in _positional(each))


def _choices(argument: Argument) -> tuple[str, ...]:
    if argument.value == _COMMAND_OR_CODE:
        return tuple(COMMANDS)
    if argument.value != _PRODUCT:
        return argument.choices
    from oci_gpu_hook.admin.simulate.products import PRODUCTS

    return tuple(PRODUCTS)


def _bash_values(option: Argument) -> str:
    if choices := _choices(option):
        return f'$(compgen -W "{" ".join(choices)}" -- "$word")'
    if option.value in _DIRECTORIES:
        return '$(compgen -d -- "$word")'
    return '$(compgen -f -- "$word")' if option.value in _FILES else ""


def _zsh(argument: Argument, *, bundles: bool = False) -> str:
    """Return an argument as _arguments takes it: '(-h --help)'{-h,--help}'[meaning]:value:(choices)'.

    bundles: whether a directory is as good.
    """
    name = "choice" if argument.choices else argument.value.lower().replace("|", " or ")
    value = f":{name}:{_zsh_values(argument, bundles=bundles)}" if argument.value else ""
    if not argument.flags:
        return _quote(f"*{value}")
    tail = _quote(f"[{argument.meaning.replace('[', '(').replace(']', ')')}]{value}")
    if len(argument.flags) == 1:
        return f"{argument.flags[0]}{tail}"
    return f"'({' '.join(argument.flags)})'{{{','.join(argument.flags)}}}{tail}"


def _zsh_values(argument: Argument, *, bundles: bool = False) -> str:
    if choices := _choices(argument):
        return f"({' '.join(choices)})"
    if argument.value in _CONTAINERS:
        return f'{{local -a names=(${{(f)"$({_LIST})"}}); compadd -a names{"; _files -/" if bundles else ""}}}'
    return "_files -/" if argument.value in _DIRECTORIES else "_files" if argument.value in _FILES else ""


def _fish(condition: str, option: Argument) -> str:
    line = f"complete -c oci-gpu -n {condition} "
    line += " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    if choices := _choices(option):
        line += f" -x -a {_quote(' '.join(choices))}"
    elif option.value in _CONTAINERS:
        line += f" -x -a '({_LIST})'"
    elif option.value:
        line += " -r -F" if option.value in (*_FILES, *_DIRECTORIES) else " -x"
    return f"{line} -d {_quote(option.meaning)}"


def _quote(text: str) -> str:
    """Return a text as one word of any of these shells."""
    return "'" + one_line(text).replace("'", "'\\''") + "'"
