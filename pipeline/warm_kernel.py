"""Kernels that start in no time: what every notebook imports (torch, timm, ... about 12 s of a core) is imported once,
and each kernel is a fork of the process that has it.

python pipeline/warm_kernel.py serve SOCKET      started by pipeline/run.py for the time of a run
python pipeline/warm_kernel.py kernel -f FILE    what Jupyter starts: asks the server at $ASEL_WARM_KERNELS
                                                 for a fork, and is a plain kernel where there is none
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

VARIABLE = "ASEL_WARM_KERNELS"
QUIET = "-torch.utils.cpp_extension"  # of TORCH_LOGS: else it warns in a notebook that there is no GPU
PRELOAD = (
    "torch",
    "timm",
    "torchvision.transforms.v2",
    "pandas",
    "matplotlib.figure",
    "sklearn.model_selection",
    "scipy.stats",
    "ipykernel.kernelapp",
    "matplotlib_inline.backend_inline",
)
# Nothing here may touch the GPU: a fork of a process that has cannot use it (torch.utils.benchmark does).


def serve(address: str) -> None:
    """Fork a kernel for each connection, until the parent process is gone."""
    from pipeline.parent import exit_with_parent

    exit_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for exit codes: the kernel's socket tells its end
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    os.environ.setdefault("TORCH_LOGS", QUIET)  # read when torch is imported
    for name in PRELOAD:
        try:
            __import__(name)
        except ImportError:
            continue  # a kernel that needs it will say so
    while True:
        connection, _ = server.accept()
        request, handles, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if os.fork() == 0:
            server.close()
            run_kernel(json.loads(request), handles, connection)
        connection.close()
        for handle in handles:
            os.close(handle)


def run_kernel(request: dict, handles: list[int], connection: socket.socket) -> None:
    """In the fork: become the process that was asked for, and run its kernel.

    Args:
        request: `arguments`, `environment`, `folder` and `path` of the process.
        handles: its input, output and error.
        connection: to whoever asked; where it closes, this process ends.
    """
    import torch
    from ipykernel.kernelapp import launch_new_instance

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for target, handle in enumerate(handles):
        os.dup2(handle, target)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.pop("JPY_PARENT_PID", None)  # the client watches over this process, not the one that it names
    os.chdir(request["folder"])
    sys.path[:] = ["", *request["path"]]

    def watch():
        connection.recv(1)  # returns when the client is gone
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))  # read when torch was imported, which was in the server
    connection.sendall(f"{os.getpid()}\n".encode())
    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    try:
        launch_new_instance()
    finally:
        os._exit(0)


def kernel(arguments: list[str]) -> None:
    """The process Jupyter knows as the kernel: stands for the fork, and the two end together."""
    from pipeline.parent import exit_with_parent

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.environ[VARIABLE])
    except (KeyError, OSError):
        os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])
    here = str(Path(__file__).resolve().parent)
    path = [entry for entry in sys.path if entry != here]
    request = {"environment": dict(os.environ), "folder": os.getcwd(), "path": path, "arguments": arguments}
    socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    child = int(connection.makefile().readline())

    def end(*_):
        os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGINT))
    exit_with_parent()
    connection.recv(1)  # returns when the fork is gone
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    serve(sys.argv[2]) if sys.argv[1] == "serve" else kernel(sys.argv[2:])
