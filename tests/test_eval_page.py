"""The HTML page: self-contained, safe against report text, and working in a browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.made_up_studies import drafts, reports, write_jsonl

from eval.errors import EvalMismatchError
from eval.report.page import build_page
from eval.report.page_sections import Axis
from eval.result_io import save_generation, save_result
from eval.results import MetricValue, Result
from eval.tasks.generation import score_generation

REFERENCES = reports(12)
EVIL = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> & \u2028 "
    "<!-- 'lungs\""
)


def scored(folder: Path, name: str, rows: list[dict], references: list[dict]) -> Path:
    found = score_generation(
        write_jsonl(folder / "p.jsonl", rows),
        references=write_jsonl(folder / "r.jsonl", references),
        name=name,
        measures=("bleu", "rouge", "labels", "diversity", "grounding"),
        samples=100,
    )
    save_generation(found, folder / "out" / re.sub(r"\W", "", name))
    return folder / "out" / re.sub(r"\W", "", name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = drafts(REFERENCES)
    rows[0]["findings"][0]["text"] = EVIL
    rows[0]["evidence"][0]["text"] = EVIL
    rows[3] |= {"status": "failed", "findings": [], "impression": []}
    return scored(tmp_path_factory.mktemp("page"), f"run {EVIL}", rows, REFERENCES)


class Outline(HTMLParser):
    """What a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.links += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "action", "data", "xlink:href"}
        ]


def test_the_page_makes_no_requests_and_runs_only_its_own_script(folder: Path) -> None:
    page = build_page([folder])
    outline = Outline()
    outline.feed(page)
    assert outline.scripts == 2
    assert all(link.startswith("#") for link in outline.links)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "<img" not in page
    assert "<!--" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert any(study["draft"].startswith(EVIL) for study in data["runs"][0]["studies"])


def test_a_page_without_text_contains_no_report(folder: Path) -> None:
    page = build_page([folder], with_text=False)
    assert "BLEU-4" in page
    assert "The heart is normal in size" not in page
    assert 'id="data"' not in page


def test_runs_on_the_same_studies_are_side_by_side_and_others_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    other = scored(tmp_path, "second", drafts(REFERENCES, seed=5), REFERENCES)
    page = build_page([folder, other])
    header = re.search(r"<thead>.*?</thead>", page, re.DOTALL).group()
    assert header.index("run ") < header.index("second") < header.index("constant")
    (tmp_path / "fewer").mkdir()
    fewer = scored(tmp_path / "fewer", "fewer", drafts(REFERENCES[:10]), REFERENCES[:10])
    with pytest.raises(EvalMismatchError, match=r"fewer \(10 studies\)"):
        build_page([folder, fewer])


def test_a_task_on_vectors_has_a_section(tmp_path: Path) -> None:
    plot = {
        "title": "ROC",
        "x": ["false positives", 0, 1],
        "y": ["true positives", 0, 1],
        "series": [{"name": "Edema", "x": [0, 0.5, 1], "y": [0, 0.9, 1]}],
        "diagonal": True,
    }
    number = MetricValue("encoder", "all", "AUROC", 0.8, 0.7, 0.9, 50, "higher is better")
    result = Result(
        task="zero-shot",
        name="encoder",
        models={},
        dataset={"studies": 50, "fingerprint": "x"},
        settings={},
        cards=[],
        numbers=[number],
        curves={"plots": [plot]},
    )
    save_result(result, tmp_path / "zero")
    page = build_page([tmp_path / "zero"])
    assert "Zero shot" in page
    assert page.count('class="plot"') == 1
    assert "AUROC" in page


def test_plots_escape_names_and_survive_flat_and_missing_values(tmp_path: Path) -> None:
    plot = {
        "title": "<t>",
        "x": ["<x>", 0, 0],
        "y": ["<y>", 0, 1],
        "series": [{"name": "<s>", "x": [0, 1], "y": [0.5, None]}],
    }
    number = MetricValue("<n>", "all", "<m>", 0.0, 0.0, 0.0, 5, "higher is better")
    result = Result(
        task="retrieval",
        name="<n>",
        models={},
        dataset={"studies": 5, "fingerprint": "x"},
        settings={},
        cards=[],
        numbers=[number],
        curves={"plots": [plot]},
    )
    save_result(result, tmp_path / "flat")
    page = build_page([tmp_path / "flat"]).split("<body>")[1]
    assert page.count("&lt;s&gt;") >= 2
    assert not re.search(r"<[xytsnm]>", page)
    assert not re.search(r"\bnan\b", page)


def test_ticks_are_round_and_in_range() -> None:
    assert Axis("", 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert all(0 <= tick <= 0.0173 for tick in Axis("", 0, 0.0173).ticks())
    assert Axis("", 0, 80).ticks() == [0, 20, 40, 60, 80]


@pytest.mark.e2e
@pytest.mark.slow
def test_in_chromium_studies_are_worst_first_and_no_request_is_made(
    folder: Path, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    path = tmp_path / "report.html"
    path.write_text(build_page([folder]), encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    requests, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(path.as_uri())
        items = page.locator("#list li")
        assert items.count() == 12
        assert items.first.locator("span").inner_text() == "S003"  # the failed one
        assert "No draft." in page.locator("#study").inner_text()
        scores = [float(text) for text in page.locator("#list li small").all_inner_texts()]
        assert scores == sorted(scores)
        page.fill("#search", "S000")
        assert items.count() == 1
        assert "onerror=alert(1)" in page.locator("#study").inner_text()
        assert page.locator("#study img").count() == 0
        page.fill("#search", "")
        page.select_option("#filter", "missing")
        assert items.count() == 1
        page.click("label[for=t1-2]")
        assert page.locator(".tab:visible caption").inner_text().startswith("Normal: n = 4")
        assert page.title() != "owned"
        browser.close()
    assert requests == [path.as_uri()]
    assert errors == []
