"""sbatch, srun, squeue, sacct, scontrol, scancel and sinfo of a cluster that is this machine: just as much of each as
Snakemake's SLURM executor asks for. Jobs are real processes. python slurm_stand_in.py COMMAND ARGUMENTS..., with
STAND_IN_SLURM, a folder for one file a job: its state, its name and how it was submitted."""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["STAND_IN_SLURM"])
WITH_VALUE = ("--name", "--job-name", "--output", "--comment", "--mem", "-t", "-D", "--wrap", "-A", "-p")


def given(arguments: list[str]) -> dict[str, str]:
    """Options and their values, written as --key value or --key=value."""
    found, rest = {}, list(arguments)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        found[key] = value if equals else rest.pop(0) if key in WITH_VALUE and rest else ""
    return found


def sbatch(arguments: list[str]) -> None:
    options, number = given(arguments), 1
    while (FOLDER / f"{number}.json").exists():
        number += 1
    (FOLDER / f"{number}.json").touch(exist_ok=False)
    job = {"id": number, "name": options["--job-name"], "state": "PENDING", "options": options}
    write(job)
    log = Path(options["--output"].replace("%j", str(number)))
    environment = {**os.environ, "SLURM_JOB_ID": str(number)}
    if "--gpus" in options:
        environment["SLURM_GPUS"] = options["--gpus"]
    command = [sys.executable, __file__, "job", str(number)]
    with log.open("w") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        subprocess.Popen(command, cwd=options["-D"], env=environment, start_new_session=True, **streams)
    print(number)


def job(arguments: list[str]) -> None:
    """What sbatch leaves running."""
    this = json.loads((FOLDER / f"{arguments[0]}.json").read_text()) | {"state": "RUNNING", "process": os.getpid()}
    write(this)
    status = subprocess.call(this["options"]["--wrap"], shell=True)
    write(this | {"state": "FAILED" if status else "COMPLETED"})


def srun(arguments: list[str]) -> None:
    while arguments[0].startswith("-"):
        arguments.pop(0)
    os.execvp(arguments[0], arguments)


def squeue(arguments: list[str]) -> None:
    for job in jobs():
        if job["name"] == given(arguments)["--name"]:
            print(f"{job['id']}|{job['state']}")


def sacct(arguments: list[str]) -> None:
    if "--parsable2" in arguments:
        squeue(arguments)


def scontrol(arguments: list[str]) -> None:
    print("MinJobAge               = 300 sec\nMaxArraySize            = 1001")


def sinfo(arguments: list[str]) -> None:
    print("gpu*")


def scancel(arguments: list[str]) -> None:
    for job in jobs():
        if str(job["id"]) in arguments and job["state"] == "RUNNING":
            os.killpg(job["process"], 15)
            write(job | {"state": "CANCELLED"})


def jobs() -> list[dict]:
    return [json.loads(text) for file in sorted(FOLDER.glob("*.json")) if (text := file.read_text())]


def write(job: dict) -> None:
    scratch = FOLDER / f"{job['id']}.{os.getpid()}.new"
    scratch.write_text(json.dumps(job))
    scratch.replace(FOLDER / f"{job['id']}.json")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2:])
