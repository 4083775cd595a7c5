"""Holds up whoever opens a file, by a lease on it (fcntl(2)), until standard input ends."""

import fcntl
import os
import signal
import sys

# The kernel's word that somebody waits; it would end this process.
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
