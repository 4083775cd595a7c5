"""Teachers that other projects could bring: a torchvision network, exported by PyTorch in every format."""

# The packages are pinned for one Python version.
PYTHON = "3.11"
