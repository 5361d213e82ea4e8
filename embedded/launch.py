"""The last step before a child process: tie its life to the supervisor's, then become the command.

Run as a script, never imported: `launch.py SIGNAL PARENT USER COMMAND...`. A small program of its
own, since code between fork and exec is not safe in a supervisor that has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    death_signal, parent, user, *command = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    if sys.platform == "linux":  # after setuid, which would clear it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("The supervisor ended before this process began.")
    os.execvp(command[0], command)  # noqa: S606


main()
