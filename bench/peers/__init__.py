"""The servers that Retort's inference service is measured beside."""

# The peers are pinned for one Python. Their numpy has no wheels for one newer than 3.12.
PYTHON = "3.11"
MODEL = "model"
# Server and load have a core each, so neither takes the other's time.
SERVER_CORE = 0
LOAD_CORE = 1


class BenchError(Exception):
    """What went wrong and what to do about it."""
