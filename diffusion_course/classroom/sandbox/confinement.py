"""System calls that no notebook needs, refused in the sandbox.

They give memory that is counted nowhere, take cores of others, reach into other processes, or leave
something behind that outlives the run. The
filter is a program for Linux's seccomp in its classic form, one jump for each call:
https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html. It is there for the two
usual processors; on others the sandbox does without it.
"""

from __future__ import annotations

import platform
import struct

# (name, number on x86_64, number on aarch64)
REFUSED = (
    ("memfd_create", 319, 279),
    ("memfd_secret", 447, 447),
    ("shmget", 29, 194),
    ("shmat", 30, 196),
    ("msgget", 68, 186),
    ("semget", 64, 190),
    ("mq_open", 240, 180),
    ("add_key", 248, 217),
    ("request_key", 249, 218),
    ("keyctl", 250, 219),
    ("ptrace", 101, 117),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("pidfd_getfd", 438, 438),
    ("kcmp", 312, 272),
    ("bpf", 321, 280),
    ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282),
    ("io_uring_setup", 425, 425),
    ("io_uring_enter", 426, 426),
    ("io_uring_register", 427, 427),
    ("mount", 165, 40),
    ("umount2", 166, 39),
    ("pivot_root", 155, 41),
    ("unshare", 272, 97),
    ("setns", 308, 268),
    ("open_by_handle_at", 304, 265),
    ("personality", 135, 92),
    ("vmsplice", 278, 75),
    ("splice", 275, 76),
    ("tee", 276, 77),
    ("io_setup", 206, 0),
    ("sched_setaffinity", 203, 122),
    ("sched_setscheduler", 144, 119),
    ("sched_setparam", 142, 118),
    ("sched_setattr", 314, 274),
    ("ioprio_set", 251, 30),
    ("setxattr", 188, 5),
    ("lsetxattr", 189, 6),
    ("fsetxattr", 190, 7),
    ("setxattrat", 463, 463),
    ("removexattr", 197, 14),
    ("lremovexattr", 198, 15),
    ("fremovexattr", 199, 16),
    ("removexattrat", 466, 466),
)
# These only with such first arguments: to the process itself (0), or as a socket that no network
# has (AF_UNIX is 1): what ends a connection is kept for a minute after all processes are gone.
ONLY_WITH = (
    ("prlimit64", 302, 261, (0,)),
    ("setpriority", 141, 140, (0, 0)),
    ("socket", 41, 198, (1,)),
)
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # x86_64's calls of another kind, with numbers of their own
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def refusing_filter(machine: str | None = None) -> bytes | None:
    """Return the filter for a processor, or None where there is none for it.

    `machine` is named as by `platform.machine`; without it, it is this one.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        return None
    column = 1 + list(ARCHITECTURES).index(machine)
    steps = [
        _step(LOAD, ARCHITECTURE),
        _step(EQUAL, ARCHITECTURES[machine], 1, 0),
        _step(RETURN, REFUSE),
    ]
    steps += [_step(LOAD, NUMBER), _step(AT_LEAST, X32, 0, 1), _step(RETURN, REFUSE)]
    for row in REFUSED:
        steps += [_step(EQUAL, row[column], 0, 1), _step(RETURN, REFUSE)]
    for row in ONLY_WITH:
        steps += [_step(EQUAL, row[column], 0, 3 * len(row[-1]) + 1)]
        for place, allowed in enumerate(row[-1]):
            steps += [_step(LOAD, ARGUMENTS + 8 * place), _step(EQUAL, allowed, 1, 0)]
            steps += [_step(RETURN, REFUSE)]
        steps += [_step(RETURN, ALLOW)]
    return b"".join([*steps, _step(RETURN, ALLOW)])
