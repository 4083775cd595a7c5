"""The servers that Retort's inference service is measured beside."""

# Its peers are pinned for one Python: numpy 1.26, which pytriton needs, has wheels up to 3.12 only.
PYTHON = "3.11"
