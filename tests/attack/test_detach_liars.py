"""`oci-gpu detach` where a process with the GPU open hides: in namespaces, behind mounts over /proc, by its name."""

from __future__ import annotations

import subprocess

import pytest

from tests.attack.conftest import Tally
from tests.runtime.test_detach import Busy, host  # noqa: F401  a fixture

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *alone(void *unused)
{
	usleep(100000);
	write(1, "open\n", 5);
	for (;;)
		pause();
}
int main(int count, char **words)
{
	const char *how = count > 1 ? words[1] : "";
	if (strstr(how, "early") && open("/dev/nvidia0", O_RDONLY) < 0)
		return 1;
	int kinds = (strstr(how, "user") ? CLONE_NEWUSER | CLONE_NEWNS : 0) | (strstr(how, "pid") ? CLONE_NEWPID : 0);
	if (kinds && unshare(kinds))
		return 2;
	if (strstr(how, "pid") && fork())
		for (;;)
			pause();
	if (strstr(how, "proc")) {
		mount("", "/", "", MS_REC | MS_PRIVATE, 0);
		if (mount("liar", "/proc", "tmpfs", 0, "size=4k"))
			return 3;
	}
	if (strstr(how, "name"))
		prctl(PR_SET_NAME, ") R 1 2\n\x1b[2J", 0, 0, 0);
	if (strstr(how, "dump"))
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (strstr(how, "leader") && fork() == 0)
		setsid();
	else if (strstr(how, "leader"))
		_exit(0);
	if (!strstr(how, "early") && open("/dev/nvidia0", O_RDONLY) < 0)
		return 4;
	signal(SIGTERM, SIG_IGN);
	pthread_t other;
	if (strstr(how, "first") && pthread_create(&other, 0, alone, 0) == 0)
		syscall(SYS_exit, 0);
	write(1, "open\n", 5);
	for (;;)
		pause();
}
"""
HOW = (
    "name",
    "user",
    "user pid",
    "user pid proc",
    "user proc early",
    "early user pid proc name dump",
    "dump",
    "leader",
    "first",
    "user pid first",
)


@pytest.fixture(scope="module")
def liar(tmp_path_factory):
    """A program that has the GPU open, and hides in the ways that its argument names."""
    directory = tmp_path_factory.mktemp("liar")
    (directory / "liar.c").write_text(SOURCE)
    subprocess.run(
        ["musl-gcc", "-static", "-pthread", "-O1", "-o", directory / "liar", directory / "liar.c"], check=True
    )
    return directory / "liar"


@pytest.mark.root
@pytest.mark.parametrize("how", HOW)
def test_it_is_found_and_ended(runtime, make_bundle, host, liar, tally: Tally, how):  # noqa: F811
    """It is refused while the process lives, and by force the process ends before the GPU goes."""
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    bundle.config["process"]["capabilities"] = {
        kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")
    }
    (bundle.rootfs / "liar").write_bytes(liar.read_bytes())
    (bundle.rootfs / "liar").chmod(0o755)
    with runtime.started(bundle) as container:
        words = ("--root", runtime.state_dir, "exec", "--cap", "CAP_SYS_ADMIN", container.id, "/liar", how)
        process = subprocess.Popen(runtime.host.command(runtime.binary, *words), stdout=subprocess.PIPE)
        try:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            busy = Busy(runtime, container, host)
            refused = busy.detach()
            tally.count()
            assert refused.returncode == 1, refused.stdout
            assert "OGH1310" in refused.stderr
            assert refused.stderr.count("\n") == 1
            assert "\x1b" not in refused.stderr
            assert busy.opens() == "opened"
            forced = busy.detach("--force", "--grace", "0.2")
            tally.count()
            assert forced.returncode == 0, forced.stderr
            assert "\x1b" not in forced.stdout
            assert busy.opens() in {"ENOENT", "EPERM"}
        finally:
            process.kill()
            process.wait()
