"""A teacher of rows that other projects could bring: gradient boosting of scikit-learn, exported as ONNX."""

# The packages are pinned for one Python version.
PYTHON = "3.11"
