#!/bin/sh
# Builds the front: build.sh OUTPUT. Needs a C compiler (CC, else cc) and nothing else: no libc, no headers of one.
set -eu
here=$(dirname "$0")
# CC may carry arguments, such as a target. -no-pie: nothing relocates a program that has no loader.
exec ${CC:-cc} -std=c11 -Os -Wall -Wextra -Werror=implicit-function-declaration \
    -ffreestanding -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fomit-frame-pointer \
    -static -nostdlib -no-pie -Wl,-z,noexecstack -Wl,-z,noseparate-code -Wl,--build-id=none -s \
    -o "$1" "$here"/start.c "$here"/programs.c "$here"/system.c "$here"/words.c "$here"/json.c "$here"/state.c \
    "$here"/settings.c "$here"/files.c "$here"/processes.c "$here"/leases.c "$here"/ended.c "$here"/standby.c \
    "$here"/resident.c "$here"/children.c "$here"/hook.c "$here"/runtime.c "$here"/mesos.c
