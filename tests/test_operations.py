"""docs/operations.md and deploy/ are true: backup and restore, settings, services."""

import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.config_file import load_settings
from rag.index import build_index, verify_index
from rag.review.audit import AuditLog

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def commands_of(heading: str) -> list[list[str]]:
    """The command lines of a section of the page, block by block."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)
    ]


def run(commands: list[str], folder: Path, *, home: Path, etc: Path) -> None:
    for command in commands:
        subprocess.run(
            ["bash", "-c", command.replace("/etc", str(etc))],
            cwd=folder,
            env={"CXR_RAG_HOME": str(home), "PATH": "/usr/bin:/bin"},
            check=True,
        )


@pytest.mark.slow
def test_a_backup_made_while_drafts_are_recorded_restores_completely(tmp_path: Path) -> None:
    home, etc, new_home, new_etc = (tmp_path / name for name in ("home", "etc", "home2", "etc2"))
    for folder in (etc / "cxr-rag", new_home, new_etc):
        folder.mkdir(parents=True)
    (etc / "cxr-rag" / "settings.toml").write_text("[page]\nport = 1\n")
    build_index(small_corpus(), FakeEncoder(), home / "index")
    audit, stopped = AuditLog(home / "audit" / "audit.jsonl"), threading.Event()

    def draft() -> None:
        number = 0
        while not stopped.is_set():
            audit.append("draft", draft=f"d{number}", data={"text": "word " * 2000})
            number += 1

    drafting = threading.Thread(target=draft)
    drafting.start()
    backup, restore = commands_of("Backup and restore")
    try:
        assert len(backup) == len(restore) == 3
        for _ in range(3):
            run(backup, tmp_path, home=home, etc=etc)
    finally:
        stopped.set()
        drafting.join()
    run(restore, tmp_path, home=new_home, etc=new_etc)
    count, _ = AuditLog(new_home / "audit" / "audit.jsonl").verify()
    assert 0 < count <= audit.verify()[0]
    assert verify_index(new_home / "index").passed
    assert (new_etc / "cxr-rag" / "settings.toml").read_text() == "[page]\nport = 1\n"


def test_the_containers_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"page", "chroma", "llm"}
    environment: Mapping[str, str] = services["page"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(str(DEPLOY / "settings" / "settings.toml"))
    assert settings.chroma_url == "http://chroma:8000"
    assert settings.llm.url == "http://llm:8100/v1"
    assert not settings.llm.server.enabled
    assert str(settings.page.users) == "/etc/cxr-rag/users"
    assert yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"].keys() == {"llm"}


def test_files_copied_by_the_containerfile_exist_and_are_not_ignored() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    ignored = set((ROOT / ".dockerignore").read_text().split())
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert name not in ignored
    for service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        target = service.get("build", {}).get("target")
        assert target is None or f" AS {target}\n" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit() -> None:
    command = ["systemd-analyze", "verify", DEPLOY / "cxr-rag.service"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    faults = [line for line in output.splitlines() if "cxr-rag.service" in line]
    assert [line for line in faults if "is not executable" not in line] == []  # not installed here
