"""Training with PyTorch alone, to compare Retort's trainer with."""
