"""Runs a command to which the kernel refuses some system calls, as an old kernel or a container's seccomp profile does.

python3 refuse.py ERRNO NUMBER[,NUMBER...] COMMAND...
"""

import ctypes
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000  # include/uapi/linux/seccomp.h


def main() -> None:
    error, numbers, command = int(sys.argv[1]), [int(text) for text in sys.argv[2].split(",")], sys.argv[3:]
    program = [(_LOAD, 0, 0, 0)]  # the number is the first member of struct seccomp_data
    for index, number in enumerate(numbers):
        program.append((_EQUAL, len(numbers) - index, 0, number))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | error)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_program = struct.pack("H6xQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_program)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
    os.execv(command[0], command)


main()
