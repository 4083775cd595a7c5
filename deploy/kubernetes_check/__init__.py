"""The parts of deploy/check-kubernetes: rendering, schemas, invariants of the project, negative controls."""
