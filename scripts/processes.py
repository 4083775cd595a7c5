"""Programs of Retort that scripts run: trainings, and services that run meanwhile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def trainer(command, recipe, settings, *more):
    """Runs `student-trainer run` or `record` with configs/RECIPE.toml or a file, and `key.path=value` settings."""
    file = recipe if isinstance(recipe, Path) else ROOT / f"configs/{recipe}.toml"
    call = [RELEASE / "student-trainer", command, file, *more]
    for setting in settings:
        call += ["--set", setting]
    subprocess.run(call, check=True, cwd=ROOT, stdout=sys.stderr)


class Service:
    """A service of Retort on free ports. Use it in a `with` statement."""

    def __init__(self, command, ready, *settings):
        self.name = command[0]
        self.ready = ready
        self.ready.unlink(missing_ok=True)
        call = [RELEASE / self.name, *command[1:], "--ready-file", ready]
        for setting in ["grpc.listen=127.0.0.1:0", "metrics.listen=127.0.0.1:0", *settings]:
            call += ["--set", setting]
        self.process = subprocess.Popen(call, cwd=ROOT)

    def address(self) -> str:
        """Host and port of the gRPC server, once the service is ready."""
        while not self.ready.exists():
            if self.process.poll() is not None:
                sys.exit(f"a {self.name} exited before it was ready")
            time.sleep(0.05)
        return json.loads(self.ready.read_text())["grpc"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Teacher(Service):
    """A teacher-service, by default with one thread, as in the demo."""

    def __init__(self, model, ready, *settings):
        super().__init__(["teacher-service", "serve", "--model", model], ready, "compute.threads=1", *settings)


def accuracies(folder):
    """Accuracy on the held-out images at the end of each phase of the run in `folder`."""
    last = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "epoch_finished":
            last[event["phase"]] = event["validation_accuracy"]
    return [last[phase] for phase in sorted(last)]
