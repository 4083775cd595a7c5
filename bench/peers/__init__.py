"""The servers that Retort's inference service is compared with."""

# The peers are pinned for one Python version. Their numpy has no wheels for versions above 3.12.
PYTHON = "3.11"
MODEL = "model"
# Server and load have one core each, so they do not compete.
SERVER_CORE = 0
LOAD_CORE = 1


class BenchError(Exception):
    """Says what went wrong and what to do."""
