"""Take rights from this process for good: files by Landlock, system calls by seccomp. Linux only, no privilege needed.

It knows the kernel's interfaces, not what a tool is. What the kernel does not offer is reported, not passed over.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = sum(1 << bit for bit in range(4, 14))
WRITE = WRITE_FILE | CHANGE | TRUNCATE
"""Rights of landlock(7): what reads, and what changes files or folders."""
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "socket": 41, "connect": 42, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101,
        "tkill": 200, "tgkill": 234, "unshare": 272, "process_vm_readv": 310, "process_vm_writev": 311, "execveat": 322,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "clone": 220, "execve": 221, "kill": 129, "ptrace": 117, "tkill": 130,
        "tgkill": 131, "unshare": 97, "process_vm_readv": 270, "process_vm_writev": 271, "execveat": 281,
    },
}  # fmt: skip
EVERYWHERE = {"pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "pidfd_getfd": 438}
NETWORK = ("socket", "connect", "io_uring_setup")
PROCESSES = (
    "fork", "vfork", "execve", "execveat", "kill", "tkill", "tgkill", "ptrace", "unshare", "process_vm_readv",
    "process_vm_writev", "pidfd_send_signal", "pidfd_getfd", "io_uring_setup",
)  # fmt: skip

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of classic BPF: load a word, jump when equal, at least, any bit set; return."""
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
CLONE_THREAD = 0x10000


def confine(
    *,
    readable: Sequence[str] | None = None,
    writable: Sequence[str] | None = None,
    network: bool = True,
    processes: bool = True,
) -> list[str]:
    """Give up rights that this process and its children never get back; what the kernel cannot enforce, in words.

    readable, writable: the only paths that may be read or changed; None leaves that as it is.  network: may make
    sockets.  processes: may start and signal processes (threads are always allowed).
    """
    if sys.platform != "linux":
        return ["files", "system calls"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS, which both ask for
        return ["privileges"]
    failed = []
    if (readable is not None or writable is not None) and not _restrict_files(libc, readable, writable):
        failed.append("files")
    refused = [*(() if network else NETWORK), *(() if processes else PROCESSES)]
    if refused and not _refuse_calls(libc, refused, not processes):
        failed.append("system calls")
    return failed


def _restrict_files(libc: ctypes.CDLL, readable: Sequence[str] | None, writable: Sequence[str] | None) -> bool:
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    known = WRITE & ~(TRUNCATE if version < 3 else 0) & ~(1 << 13 if version < 2 else 0)
    handled = (0 if readable is None else READ) | (0 if writable is None else known)
    rules = libc.syscall(444, struct.pack("=Q", handled), ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    _allow(libc, rules, readable or (), READ & handled)
    _allow(libc, rules, writable or (), (READ | WRITE) & handled)
    _allow(libc, rules, [os.devnull], (READ_FILE | WRITE_FILE) & handled)
    restricted: int = libc.syscall(446, rules, 0)
    os.close(rules)
    return restricted == 0


def _allow(libc: ctypes.CDLL, rules: int, paths: Iterable[str], rights: int) -> None:
    """Grant rights beneath paths; one that does not exist grants nothing."""
    for path in paths:
        if os.path.exists(path):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            granted = rights if os.path.isdir(path) else rights & ON_FILES
            libc.syscall(445, rules, 1, struct.pack("=Qi", granted, place), 0)
            os.close(place)


def _refuse_calls(libc: ctypes.CDLL, names: Sequence[str], no_processes: bool) -> bool:
    """Make system calls fail with EPERM."""
    machine = platform.machine()
    if machine not in NUMBERS:
        return False
    known = NUMBERS[machine] | EVERYWHERE
    denied = sorted({known[name] for name in names if name in known})
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[machine]), _refuse(errno.EPERM), (LOAD, 0, 0, 0)]
    if machine == "x86_64":
        program += [(AT_LEAST, 0, 1, 0x40000000), _refuse(errno.EPERM)]  # x32's second numbers for the same calls
    for number in denied:
        program += [(EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    if no_processes:
        # glibc falls back from clone3, whose flags a filter cannot see, to clone, which may only make threads.
        program += [(EQUAL, 0, 1, EVERYWHERE["clone3"]), _refuse(errno.ENOSYS)]
        program += [(EQUAL, 0, 3, known["clone"]), (LOAD, 0, 0, 16), (ANY_BIT, 1, 0, CLONE_THREAD)]
        program += [_refuse(errno.EPERM)]
    program.append((RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    installed: int = libc.prctl(22, 2, header, 0, 0)
    return installed == 0


def _refuse(code: int) -> tuple[int, int, int, int]:
    return RETURN, 0, 0, REFUSE | code
