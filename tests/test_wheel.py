"""What pip installs works on its own: no path of it leads back to the repository."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("rag", "encoders", "prompts", "eval", "reading_room", "demo")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel, and with what it needs beside it.

    The dependencies are not installed again: a .pth file leads to those of this environment, behind
    a finder that hides the repository's own editable install.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building writes beside what it builds
    skipped = (".*", "__pycache__", "build", "*.egg-info", "tests", "runs", "out")
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(*skipped))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(source)], check=True)
    (wheel,) = folder.glob("cxr_rag-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    theirs = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    ours = sysconfig.get_path("purelib")
    (theirs / "dependencies.pth").write_text(ours + "\n")  # path files there are not followed
    return python


def run(python: Path, *arguments: object, folder: Path) -> str:
    """Output of the installed command, away from the repository."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CXR_RAG_"))}
    ran = subprocess.run(
        [str(python), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_the_wheel_drafts_without_a_model(python: Path, tmp_path: Path) -> None:
    where = "import rag, encoders, prompts; print(rag.__file__, encoders.__file__)"
    assert str(REPOSITORY) not in run(python, "-c", where, folder=tmp_path)
    assert "generate" in run(python.with_name("cxr-rag"), "--help", folder=tmp_path)
    load = (
        "from rag.config_file import load_settings, preset_names\n"
        "from prompts.render import load_template, render, template_names\n"
        "print([load_settings(name).llm.template for name in preset_names()])\n"
        "template = load_template('select_v1')\n"
        "print(render(template, {'slots': [], 'reports': 0, 'indication': ''}).sha256)\n"
        "print(template_names())"
    )
    assert "select_v1" in run(python, "-c", load, folder=tmp_path)
    reports = tmp_path / "reports.jsonl"
    reports.write_text(
        "".join(
            json.dumps(
                {
                    "report_id": record.report_id,
                    "study_id": record.study_id,
                    "patient_id": record.patient_id,
                    "findings": record.findings,
                    "impression": record.impression,
                }
            )
            + "\n"
            for record in small_corpus().records
        )
    )
    config = tmp_path / "mine.toml"
    config.write_text(
        f'home = "{tmp_path / "home"}"\n[llm]\nenabled = false\n[abstention]\nsimilarity = -1.0\n'
    )
    write_phantom_dicom(tmp_path / "phantom.dcm", seed=0, size=256)
    command = python.with_name("cxr-rag")
    run(command, "index", "--collection", reports, "--config", config, folder=tmp_path)
    out = run(command, "generate", "phantom.dcm", "--json", "--config", config, folder=tmp_path)
    assert json.loads(out)["status"] == "ok"


def test_every_import_is_declared() -> None:
    """Top-level imports of the product, and those within functions, name declared packages."""
    declared = {
        _plain(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
        for line in (REPOSITORY / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = {"ray", "onnx"}
    by_module = metadata.packages_distributions()
    undeclared: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for name in _imports(path):
                known = {_plain(one) for one in by_module.get(name, [])}
                ours = name in {*PACKAGES, "app", "experiments"} or name in sys.stdlib_module_names
                if not ours and not known & declared and not {name, *known} & extras:
                    undeclared.setdefault(name, str(path.relative_to(REPOSITORY)))
    assert not undeclared


def _imports(path: Path) -> set[str]:
    """First parts of what a file imports; what is tried and may be missing does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    optional = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.Try)
        for inner in outer.body
        for node in ast.walk(inner)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in optional:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
