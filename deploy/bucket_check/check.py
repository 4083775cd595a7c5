"""All steps of a check of one object store.

The store of a check, `server`, has these attributes and methods:

- `title`: what it is, with its version;
- `environment`: the variables with which Retort's programs reach it;
- `url(path)`: the URL of a prefix in its bucket;
- `names(prefix)`: the names of the objects that begin so; `content(name)`: the bytes of an object, or None;
- `expect_refusals(existing)`: requires that it refuses to create the object `existing` and to replace a changed one;
- `finish()`: requires at the end what the check must have done to it.
"""

import pathlib
import sys
import tempfile

from . import model_store, training
from .programs import PROGRAMS, Failure, Scene


def check(scheme, start_server):
    """Does all steps with URLs that begin with `scheme`, in the store that `start_server(scene)` starts."""
    for program in ["inference-service", "retort", "student-trainer", "teacher-service"]:
        if not (PROGRAMS / program).exists():
            sys.exit(f"{PROGRAMS / program} is missing: run `cargo build --release`")
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(pathlib.Path(folder))
        try:
            server = start_server(scene)
            scene.environment = server.environment
            teacher = training.train_teacher(scene)
            model_store.check(scene, server, teacher)
            training.check_recording(scene, server, teacher)
            training.check_run(scene, server)
            server.finish()
        # OSError: a process that was called has ended, or does not answer.
        except (Failure, OSError) as failure:
            for process in scene.started:
                print(f"--- {process.name}:\n{process.said()[-3000:]}", file=sys.stderr)
            sys.exit(f"FAILED: {failure}")
        finally:
            scene.stop()
    print(f"{scheme} works with {server.title}")
