/* Entry: which role this copy of the executable plays. */
#include "front.h"

#if defined(__x86_64__)
__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call enter\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
        "_start: mov x29, #0\n"
        "        mov x30, #0\n"
        "        mov x0, sp\n"
        "        and sp, x0, #-16\n"
        "        bl enter\n");
#endif

__attribute__((used)) _Noreturn void enter(long *stack) {
    int argc = stack[0];
    char **argv = (char **)(stack + 1);
    environment = argv + argc + 1;
    if (same(block.role, "runtime"))
        runtime(argc, argv);
    if (same(block.role, "mesos"))
        mesos(argc, argv);
    if (same(block.role, "hook")) {
        fill_standard_descriptors();
        hook(argc, argv);
    }
    fail("no role", "", "this is the template; run the executable that `oci-gpu hook-path` prints", "OGH1809");
}
