"""Other attribution libraries on Hunch's own tasks. `launch` writes a task, runs a peer in the
environment of `make peers` as a process of its own, and reads its scores; `python -m
benchmarks.peers` is that process; a file named after a library calls it."""
