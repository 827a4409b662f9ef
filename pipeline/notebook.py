"""Execute one notebook with papermill: python pipeline/notebook.py NOTEBOOK OUTPUT ['{"parameter": value}']

Beyond papermill's own: OUTPUT appears only when all cells ran; a failed notebook stays readable beside it as
<name>.failed.ipynb, its error as <name>.failed.txt; the user's own Jupyter and IPython set-up is not touched.
"""

import io
import json
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

PROGRESS = "[asel] "  # pipeline/run.py shows the lines that begin so; all others go to the log only
LOGGED = re.compile(r"[IWE]\d{4} ")  # torch's own log: no sign of how far a cell is
TOLD = re.compile(
    r"not reused: |\S+: (already )?trained with these settings"
)  # what the library says of a checkpoint at hand
HEARTBEAT = 20  # seconds between two signs of life of a long cell


def execute(notebook: Path, output: Path, parameters: dict) -> None:
    """Run a notebook in a kernel of this very Python.

    Args:
        notebook: the .ipynb file.
        output: where the executed copy goes.
        parameters: name -> value; one that the notebook does not have is an error (`asel_lib.parameters`).

    Raises:
        PapermillExecutionError: where a cell raises.
    """
    import papermill

    from pipeline import warm_kernel

    failed = output.with_name(f"{output.stem}.failed.ipynb")
    scratch_folder = tempfile.TemporaryDirectory(prefix=".kernel-", dir=output.parent)
    with scratch_folder as scratch, Heartbeat(output.stem) as beat:
        # "python3" in an empty Jupyter folder is the kernel of sys.executable; connection files and history
        # of notebooks that run side by side do not meet.
        for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[variable] = scratch
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        os.environ.setdefault("TORCH_LOGS", warm_kernel.QUIET)
        kernel = "python3"
        if os.environ.get(warm_kernel.VARIABLE):
            kernel = "warm"
            spec = Path(scratch, "kernels", kernel, "kernel.json")
            spec.parent.mkdir(parents=True)
            command = [sys.executable, warm_kernel.__file__, "kernel", "-f", "{connection_file}"]
            spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
        tempfile.tempdir = scratch
        papermill.execute_notebook(
            notebook,
            failed,
            parameters,
            kernel_name=kernel,
            language="python",
            cwd=notebook.parent,  # as in Jupyter
            progress_bar=False,
            stdout_file=beat,
            stderr_file=beat,
        )
    os.replace(failed, output)
    for trace in (error_file(output), failed.with_suffix(".html")):
        trace.unlink(missing_ok=True)


def error_file(output: Path) -> Path:
    """Where the error of a failed notebook is written, for people and for pipeline/run.py."""
    return output.with_name(f"{output.stem}.failed.txt")


class Heartbeat(io.TextIOBase):
    """Takes what the notebook prints: all of it goes to the log, its last line now and then to the user, and at once
    why a checkpoint is reused or not."""

    def __init__(self, label: str):
        self.label, self.last, self.done, self.begun = label, "", threading.Event(), time.monotonic()

    def write(self, text: str) -> int:
        """Pass on what is worth a line of a notebook's output.

        Args:
            text: the output.
        """
        sys.stdout.write(text)
        sys.stdout.flush()
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip() and not LOGGED.match(line)]
        self.last = lines[-1] if lines else self.last
        for line in filter(TOLD.match, lines):
            say(f"{self.label}: {line}")
        return len(text)

    def __enter__(self):
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.done.set()

    def _beat(self):
        while not self.done.wait(HEARTBEAT):
            say(f"{self.label}: {time.monotonic() - self.begun:.0f} s  {self.last[:90]}")


def say(text: str) -> None:
    """Print a line that pipeline/run.py passes on.

    Args:
        text: the line.
    """
    print(f"\n{PROGRESS}{text}", flush=True)


def describe(error: Exception, failed: Path) -> str:
    """The cell and the last 15 lines of what went wrong in it, without colours.

    Args:
        error: that ended the notebook.
        failed: the copy that was executed.
    """
    if type(error).__name__ == "DeadKernelError":
        return (
            f"{at_work(failed)}the kernel died (killed from outside, or out of memory: then lower batch_size in the "
            "profile, or end other programs); the same command goes on from what is kept"
        )
    if type(error).__name__ != "PapermillExecutionError":
        return f"{type(error).__name__}: {error}"
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).splitlines()
    source = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[:12])
    said = trace[-15:] or [f"{error.ename}: {error.evalue}"]
    return "\n".join([f"In cell [{error.exec_count}]:", source, *said])


def at_work(failed: Path) -> str:
    """The cell of an executed copy that did not come to its end."""
    try:
        cells = json.loads(failed.read_text())["cells"]
        # By papermill's own mark: the kernel's word that it began can be lost when it dies at once.
        cell = [cell for cell in cells if cell["metadata"]["papermill"]["status"] != "pending"][-1]
    except (OSError, ValueError, LookupError):
        return ""
    source = "".join(cell["source"]).strip().splitlines()[:12]
    return "\n".join(["In the cell:", *(f"    {line}" for line in source), ""])


def main(notebook: str, output: str, parameters: str = "{}") -> int:
    """Run a notebook as a job of the workflow.

    Args:
        notebook: path of the .ipynb file.
        output: path of the executed copy.
        parameters: as JSON.
    """
    from pipeline.parent import exit_with_parent

    exit_with_parent()
    target, begun = Path(output).resolve(), time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"{target.stem}: started")
    try:
        execute(Path(notebook).resolve(), target, json.loads(parameters))
    except Exception as error:
        say(f"{target.stem}: FAILED after {time.monotonic() - begun:.0f} s")
        text = describe(error, target.with_name(f"{target.stem}.failed.ipynb"))
        print(text, flush=True)
        error_file(target).write_text(text + "\n")
        return 1
    say(f"{target.stem}: done in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
