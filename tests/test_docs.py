"""What README and docs say of the tree and of each other is so."""

import ast
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_every_path_of_the_tree_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"## How an image becomes a report\n\n```\n(.*?)```", text, re.DOTALL)
    paths, folder = [], ""
    for line in tree.splitlines():
        is_path = re.compile(r"[a-z_]+(?:/[a-z_]+)*(?:/|\.py)").fullmatch
        names = list(itertools.takewhile(is_path, line.split()))
        assert names, line
        folder = folder if line.startswith("  ") else names[0]
        paths += [folder + name if line.startswith("  ") else name for name in names]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(LINK.findall(index))


def test_no_two_classes_of_the_product_have_one_name() -> None:
    packages = ("rag", "encoders", "eval", "experiments", "prompts", "reading_room", "demo")
    modules = [path for name in packages for path in (ROOT / name).rglob("*.py")]
    names = Counter(
        node.name
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 300
    assert [name for name, count in names.items() if count > 1] == []


def test_nobody_imports_what_docs_design_forbids() -> None:
    """In a process of its own: it disables the loggers of other tests."""
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
