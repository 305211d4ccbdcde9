"""Runs a program under callgrind, `counted.py VALGRIND OUT PROGRAM WORD…`, and reads what that counted.

Valgrind hides the kernel's vDSO from what it runs, but up to 3.24 not from prctl(PR_GET_AUXV), by which Rust programs then find
an address that is not there. A filter makes that one call fail, and they read /proc/self/auxv, which Valgrind has prepared.
"""

import ctypes
import os
import re
import struct
import sys
from collections import Counter

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_AUXV = 22, 38, 0x41555856
SYSCALLS = {"x86_64": 157, "aarch64": 167}  # prctl
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, INVALID = 0x7FFF0000, 0x00050000 | 22


def hide_auxiliary_vector():
    """A seccomp filter, kept over exec: number of the call, its first argument, then what becomes of it."""
    steps = [
        (LOAD, 0, 0, 0), (EQUAL, 0, 3, SYSCALLS[os.uname().machine]),
        (LOAD, 0, 0, 16), (EQUAL, 0, 1, PR_GET_AUXV),
        (RETURN, 0, 0, INVALID), (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, 2, program, 0, 0)):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def by_function(dump):
    """Instructions of each function itself, out of a dump of callgrind's: names are written once and numbered from then on."""
    names, cost, of, is_call = {}, Counter(), None, False
    for text in dump.splitlines():
        if named := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", text):
            kind, number, name = named.groups()
            names[number] = name or names[number]
            of = names[number] if kind == "fn" else of
        elif text.startswith("calls="):
            is_call = True  # the next line is what was called
        elif text[:1] in "0123456789+-*" and " " in text:
            if not is_call:
                cost[of] += int(text.split()[1])
            is_call = False
    return cost


if __name__ == "__main__":
    valgrind, out, *command = sys.argv[1:]
    hide_auxiliary_vector()
    os.execvp(valgrind, [valgrind, "--tool=callgrind", "--trace-children=no", f"--callgrind-out-file={out}", *command])
