"""Takes a lease on a file (fcntl(2)), so that opening it blocks until standard input ends."""

import fcntl
import os
import signal
import sys

# The kernel sends SIGIO when a process waits for the file; by default it ends this process.
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
