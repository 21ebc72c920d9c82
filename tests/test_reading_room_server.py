"""The page's server over HTTP: the API, logins, limits, and readers kept apart."""

import base64
import gc
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from pydicom import dcmread
from support.gradio_warnings import GRADIO_WARNINGS
from support.rejections import note
from support.small_room import Room, open_room

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.errors import SettingsError
from rag.review.audit import AuditError
from rag.schema import NOTICE
from rag.settings import PageSettings
from reading_room.login import Login, hash_password, verify_password
from reading_room.middleware import HEADERS, RateLimiter

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


@pytest.fixture(autouse=True)
def collect_garbage() -> Iterator[None]:
    """Warn about unclosed resources here, where it is expected, not in another module's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def url(room: Room) -> Iterator[str]:
    with open_room(room, requests_per_minute=100_000) as url:
        yield url


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"image{number}.dcm" for number in range(8)]
    write_phantom_dicom(paths[0], seed=0)
    for number, path in enumerate(paths[1:], 1):  # another byte in the preamble, another image
        path.write_bytes(bytes([number]) + paths[0].read_bytes()[1:])
    return paths


def post_draft(url: str, image: Path, **fields: Any) -> httpx.Response:
    """``POST /api/draft`` with one image."""
    files = {"image": image.read_bytes()}
    return httpx.post(f"{url}api/draft", files=files, data=fields, timeout=60)


def test_every_response_has_the_security_headers(url: str) -> None:
    for path in (
        "",
        "config",
        "image/x",
        "export/x/report.pdf",
        "reading-room/viewport.js",
        "nowhere",
    ):
        answer = httpx.get(url + path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert "server" not in answer.headers


def test_guessed_addresses_return_no_file(url: str, room: Room) -> None:
    stored = room.file_store.put(b"secret", reader="")
    assert httpx.get(f"{url}image/{stored}").content == b"secret"
    another = room.file_store.put(b"secret", reader="another")
    upload = room.file_store.folder / "uploads" / "0" / "image.dcm"
    for path in (
        f"image/{another}",
        f"image/{stored[:-1]}0" if stored[-1] != "0" else f"image/{stored[:-1]}1",
        f"export/{another}/report.txt",
        "image/..%2f..%2faudit%2faudit.jsonl",
        f"gradio_api/file={upload}",
        f"gradio_api/file={room.audit.path}",
        "gradio_api/file=/etc/passwd",
        f"gradio_api/file={Path(__file__)}",
        f"gradio_api/file={room.file_store.find(stored, reader='')}",
        "gradio_api/file=http://192.0.2.1/x",
        "gradio_api/proxy=http://192.0.2.1/x",
        "monitoring",
    ):
        answer = httpx.get(url + path)
        assert answer.status_code in (403, 404), path
        assert b"secret" not in answer.content


def test_the_api_returns_a_recorded_draft(url: str, room: Room, images: list[Path]) -> None:
    answer = post_draft(url, images[0], indication="Cough.")
    assert answer.status_code == 200
    prediction = answer.json()
    assert prediction["status"] == "ok"
    assert prediction["notice"] == NOTICE
    cited = {source for sentence in prediction["findings"] for source in sentence["sources"]}
    assert cited <= {hit["report_id"] for hit in prediction["evidence"]}
    (entry,) = room.audit.entries_of(prediction["draft_id"])
    assert entry.data["indication"] == "Cough."


def test_documents_from_the_api_name_the_draft_and_need_a_dicom_image(
    url: str, images: list[Path], tmp_path: Path
) -> None:
    answer = post_draft(url, images[0], document=["fhir", "hl7"]).json()
    bundle, message = (base64.b64decode(answer[form]).decode() for form in ("fhir", "hl7"))
    assert json.loads(bundle)["resourceType"] == "Bundle"
    assert answer["draft_id"] in bundle
    assert message.startswith("MSH|")
    png = tmp_path / "image.png"
    Image.fromarray((read_image(images[0]).pixels * 255).astype("uint8")).save(png)
    refused = post_draft(url, png, document=["fhir", "hl7"])
    assert (refused.status_code, refused.json()["error"]) == (422, "StructuredReportError")


def test_the_api_compares_a_prior_and_refuses_another_patients(
    url: str, images: list[Path], tmp_path: Path
) -> None:
    def ask(now: str, then: str, **fields: str) -> httpx.Response:
        paths = []
        for name, patient, date in (("now", now, "20261101"), ("then", then, "20260301")):
            image = dcmread(images[0])
            image.PatientID, image.StudyDate, image.StudyInstanceUID = patient, date, f"1.2.{date}"
            image.save_as(tmp_path / name)
            paths.append(tmp_path / name)
        files = [("image", paths[0].read_bytes()), ("prior", paths[1].read_bytes())]
        files.append(("prior", b"Small left pleural effusion."))
        return httpx.post(f"{url}api/draft", files=files, data=fields, timeout=60)

    prior = ask("P", "P").json()["prior"]
    assert (prior["report"], prior["images"], prior["days_before"]) == (True, 1, 245)
    other = ask("NUMBER-ONE", "NUMBER-TWO")
    assert (other.status_code, other.json()["error"]) == (422, "PriorMismatchError")
    assert "NUMBER" not in other.text
    assert ask("P", "P", prior_date="yesterday").status_code == 422


def test_a_region_sent_to_the_api_changes_the_evidence_and_is_recorded(
    url: str, room: Room, images: list[Path]
) -> None:
    region = {"boxes": [[0.1, 0.1, 0.3, 0.3]]}
    plain = post_draft(url, images[0]).json()
    with_region = post_draft(url, images[0], region=json.dumps(region)).json()
    assert "region" not in plain
    assert with_region["region"] == region
    assert [hit["report_id"] for hit in with_region["evidence"]] != [
        hit["report_id"] for hit in plain["evidence"]
    ]
    (entry,) = room.audit.entries_of(with_region["draft_id"])
    assert entry.data["region"] == region
    by_client = Client(url, verbose=False).predict(
        images=[handle_file(images[0])], region=region, api_name="/draft"
    )
    for part in ("region", "evidence", "findings"):
        assert by_client[part] == with_region[part]


@pytest.mark.parametrize(
    "region",
    [
        *("no json", "[1, 2]", '{"boxes": [[1, 2]]}', '{"box": []}', "[" * 100_000),
        f'{{"boxes": [[{"9" * 400}, 0, 1, 1]]}}',
    ],
    ids=lambda text: text[:20],
)
def test_the_api_refuses_an_invalid_region(url: str, images: list[Path], region: str) -> None:
    answer = post_draft(url, images[0], region=region)
    assert answer.status_code == 400
    assert "boxes" in answer.json()["reason"]


@pytest.mark.parametrize(
    ("status", "error", "request_"),
    [
        (400, "BadRequest", {"data": {"indication": "no image"}}),
        (400, "BadRequest", {"content": b"rubbish"}),
        (422, "ImageReadError", {"files": {"image": b"%PDF-1.4 no image"}}),
        (400, "BadRequest", {"files": [("image", b"x")] * 6}),
        (400, "BadRequest", {"files": {"image": b"x"}, "data": {"document": "pdf"}}),
    ],
)
def test_the_api_refuses_bad_requests(
    url: str, status: int, error: str, request_: dict[str, object]
) -> None:
    answer = httpx.post(f"{url}api/draft", **request_)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["reason"]


def test_a_rejected_image_is_not_used_and_named_in_a_warning(
    url: str, images: list[Path], tmp_path: Path, room: Room
) -> None:
    other = dcmread(images[0])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.9.2"
    other.save_as(tmp_path / "other.dcm")
    kos = note(tmp_path / "kos.dcm", str(dcmread(images[0]).SOPInstanceUID))
    sent = [images[0], tmp_path / "other.dcm", kos]
    files = [("image", path.read_bytes()) for path in sent]
    answer = httpx.post(f"{url}api/draft", files=files, timeout=60).json()
    assert "image 1 was not used: a rejection note names it" in answer["warnings"]
    assert answer["file"] == f"image {sha256(files[1][1]).hexdigest()[:12]}"
    only = httpx.post(f"{url}api/draft", files=[files[0], files[2]])
    assert only.status_code == 422
    session = room.controller.open_images(sent, reader="")
    (shown,) = session.images
    assert shown.path == str(sent[1])
    assert shown.warnings[-1] == "image 1 was not used: a rejection note names it"


def test_a_draft_that_cannot_be_recorded_is_not_returned(
    url: str, room: Room, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise AuditError("the audit record cannot be written: No space left on device.")

    monkeypatch.setattr(room.audit, "append", full)
    answer = post_draft(url, images[0])
    assert (answer.status_code, answer.json()["error"]) == (503, "AuditError")
    assert "findings" not in answer.json()


def test_without_a_model_the_api_returns_503_and_the_evidence(
    url: str, room: Room, images: list[Path]
) -> None:
    room.llm.status = lambda prompt: 500
    try:
        answer = post_draft(url, images[0])
    finally:
        room.llm.status = lambda prompt: 200
    assert answer.status_code == 503
    assert answer.json()["evidence"]


def test_the_documented_client_example_works(
    url: str, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    document = (Path(__file__).parents[1] / "docs" / "reading-room.md").read_text()
    example = document.split("```python")[1].split("```")[0]
    assert "http://127.0.0.1:7860/" in example
    example = example.replace("http://127.0.0.1:7860/", url).replace("image.dcm", str(images[0]))
    exec(example, {})  # noqa: S102 - our own documentation
    assert "ok [" in capsys.readouterr().out


@pytest.mark.parametrize("readers", [2, 8])
def test_parallel_clients_each_get_their_own_draft(
    url: str, images: list[Path], readers: int
) -> None:
    def ask(number: int) -> tuple[int, dict[str, object]]:
        client = Client(url, verbose=False)
        start.wait(60)
        answers = [
            client.predict(
                images=[handle_file(images[number])],
                indication=f"reader {number}",
                api_name="/draft",
            )
            for _ in range(2)
        ]
        assert answers[0]["file"] == answers[1]["file"]
        return number, answers[1]

    start = threading.Barrier(readers)
    with ThreadPoolExecutor(readers) as pool:
        answers = dict(pool.map(ask, range(readers)))
    alone = {
        number: post_draft(url, images[number], indication=f"reader {number}").json()
        for number in range(readers)
    }
    for number, answer in answers.items():
        for part in ("file", "prompt_hash", "findings", "impression", "evidence"):
            assert answer[part] == alone[number][part]
    assert len({answer["file"] for answer in answers.values()}) == readers
    prompts = [answer["prompt_hash"] for answer in answers.values() if answer["prompt_hash"]]
    assert len(prompts) >= readers / 2
    assert len({answer["draft_id"] for answer in answers.values()}) == readers


def test_only_uploaded_files_are_read(url: str, room: Room) -> None:
    stored = room.file_store.put(b"secret", reader="another")
    paths = [f"{room.llm.url}/models", "file:///etc/passwd", "/etc/passwd", str(room.audit.path)]
    paths.append(str(room.file_store.find(stored, reader="another")))
    config = httpx.get(f"{url}config").json()
    draft = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "draft")
    for number, (path, place) in enumerate(itertools.product(paths, ("images", "indication"))):
        image = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
        data = [[image], ""] if place == "images" else [[], image]
        session = {"fn_index": draft, "session_hash": f"session{number}"}
        httpx.post(f"{url}gradio_api/queue/join", json={"data": data, **session})
        events = httpx.get(f"{url}gradio_api/queue/data?session_hash=session{number}", timeout=30)
        assert '"success":false' in events.text.replace(" ", ""), path
        assert "secret" not in events.text


def test_other_host_names_and_sites_are_refused(url: str) -> None:
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 421
    answer = httpx.post(f"{url}api/draft", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_the_size_of_a_request_is_limited(room: Room) -> None:
    with open_room(room, max_upload_mb=1) as url:
        answer = httpx.post(f"{url}api/draft", content=b"x" * (6 << 20))
        assert answer.status_code == 413
        large = [("image", b"x" * (size << 20)) for size in (1, 2)]
        answer = httpx.post(f"{url}api/draft", files=large)
        assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
        four = [("image", b"x" * (1 << 20))] * 4  # each within the limit, together above it
        assert httpx.post(f"{url}api/draft", files=four).status_code == 422
        with pytest.raises(httpx.HTTPError):
            httpx.post(
                f"{url}api/draft",
                content=(b"x" * (1 << 20) for _ in range(8)),
                headers={"content-type": "multipart/form-data; boundary=b"},
            ).raise_for_status()


def test_too_many_requests_are_refused(room: Room) -> None:
    with open_room(room, requests_per_minute=20) as url:
        statuses = [httpx.post(f"{url}api/draft").status_code for _ in range(12)]
    assert statuses[0] == 400
    assert statuses[-1] == 429


def test_the_rate_limit_refills_with_time() -> None:
    now = [0.0]
    rate = RateLimiter(60, clock=lambda: now[0])
    assert [rate.allows("a") for _ in range(16)] == [True] * 15 + [False]
    assert rate.allows("b")
    now[0] = 1.0
    assert [rate.allows("a"), rate.allows("a")] == [True, False]


def test_a_password_gives_access_to_ones_own_files_only(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = partial(RateLimiter, clock=lambda: 0.0)  # however slow the machine
    monkeypatch.setattr("reading_room.middleware.RateLimiter", frozen)
    users = tmp_path / "users"
    users.write_text(
        f"# who may read\nann:{hash_password('right')}\nbob:{hash_password('also:right')}\n"
        f"cyd:{hash_password('third')}\n"
    )
    image = room.file_store.put(b"image of ann", reader="ann")
    with open_room(room, users=users) as url:
        assert httpx.get(url).status_code == 401
        assert "Basic" in httpx.get(url).headers["www-authenticate"]
        for name, password in (("ann", "wrong"), ("eve", "right"), ("", "")):
            assert httpx.get(url, auth=(name, password)).status_code == 401
        assert httpx.get(url, auth=("ann", "right")).status_code == 200
        assert httpx.get(f"{url}image/{image}", auth=("ann", "right")).content == b"image of ann"
        assert httpx.get(f"{url}image/{image}", auth=("bob", "also:right")).status_code == 404
        statuses = {httpx.get(url, auth=("ann", f"{n}")).status_code for n in range(8)}
        assert 429 in statuses
        # new logins are refused even with the right password; who has signed in stays signed in
        assert httpx.get(url, auth=("bob", "also:right")).status_code == 200
        assert httpx.get(url, auth=("cyd", "third")).status_code == 429


def test_the_login_header_is_trusted_from_the_proxy_only(room: Room) -> None:
    with open_room(room, user_header="X-Remote-User") as url:
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"x-remote-user": "ann"}).status_code == 200
    with open_room(room, user_header="X-Remote-User", trusted_proxies=("192.0.2.1",)) as url:
        assert httpx.get(url, headers={"x-remote-user": "ann"}).status_code == 401


def test_listening_on_the_network_requires_a_login() -> None:
    with pytest.raises(SettingsError, match="login"):
        Login.from_settings(PageSettings(host="192.0.2.1"))


def test_password_hashes_are_salted_and_compatible_with_htpasswd() -> None:
    one, two = hash_password("word"), hash_password("word")
    assert one != two
    assert verify_password("word", one)
    assert not verify_password("Word", one)
    assert verify_password("word", one.replace("$2b$", "$2y$"))  # as htpasswd writes it
    assert not verify_password("word" * 50, one)
    assert verify_password(
        "word" * 50, hash_password("word" * 50)
    )  # bcrypt uses 72 bytes, as htpasswd does


def test_an_unknown_name_takes_as_long_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    password_hash = hash_password("right").replace("$10$", "$05$")  # the cost htpasswd uses
    costs = []

    def verify(_: str, password_hash: str) -> bool:
        costs.append(password_hash[:7])
        return False

    monkeypatch.setattr("reading_room.login.verify_password", verify)
    for name in ("ann", "eve"):
        token = base64.b64encode(f"{name}:word".encode()).decode()
        headers = {"authorization": f"Basic {token}"}
        assert Login({"ann": password_hash}).reader_of(headers, address="192.0.2.1") is None
    assert costs == ["$2b$05$"] * 2


@pytest.mark.parametrize("cost", ["03", "32"])
def test_an_invalid_password_hash_is_refused(tmp_path: Path, cost: str) -> None:
    right = f"ann:{hash_password('word')}"
    for line in (right.replace("$10$", f"${cost}$"), right[:32] + "A" + right[33:], right[:-1]):
        (tmp_path / "users").write_text(f"\n{line}\n")
        with pytest.raises(SettingsError, match="line 2"):
            Login.from_settings(PageSettings(users=tmp_path / "users"))
