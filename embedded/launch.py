"""The last step before a child process: tie its life to the supervisor's, then become the command.

Run as a script: `launch.py SIGNAL PARENT USER COMMAND...`. A small program of its own, since code
between fork and exec is not safe in a supervisor that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with_parent(death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def main() -> None:
    death_signal, parent, user, *command = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
        os.chdir("/")  # the folder of the project may be closed to that user
    end_with_parent(int(death_signal))  # after setuid, which would undo it
    if os.getppid() != int(parent):
        sys.exit("The supervisor ended before this process began.")
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
