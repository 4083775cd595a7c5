"""Installs Retort's pinned dependencies into .deps. Run by scripts/setup; standard library only."""
