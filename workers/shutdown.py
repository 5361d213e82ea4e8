"""Whether the worker is shutting down: set in its main process, seen in the pool processes, since
the event exists before they are forked."""

import multiprocessing

SHUTTING_DOWN = multiprocessing.Event()
