"""Calls the Docker engine."""

import os
import subprocess

PREFIX = os.environ["COMPOSE_PROJECT_NAME"]
NETWORK = PREFIX


class Failure(Exception):
    """What did not hold."""


def docker(*arguments, timeout=None):
    """The standard output of a command of docker.

    Raises subprocess.TimeoutExpired after `timeout` seconds.
    """
    command = ["docker", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if result.returncode != 0:
        said = "\n".join((result.stdout + result.stderr).strip().splitlines()[-20:])
        raise Failure(f"docker {' '.join(command[1:3])} … ended with exit code {result.returncode}:\n{said}")
    return result.stdout.strip()


def container(name):
    """The name of a container, from that of its pod."""
    return f"{PREFIX}-{name}"


def say(text):
    print(f"   {text}", flush=True)
