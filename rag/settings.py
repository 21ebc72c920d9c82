"""All settings of the product but those of training, frozen. Commands read them once.

A preset is a TOML file in rag/presets/; values come from, in this order: the environment
(``CXR_RAG_LLM__URL=...``), the file named by ``--config`` or the preset, the defaults below.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "CXR_RAG_"


def default_home() -> Path:
    """Where indexes and the prepared LLM live: ``CXR_RAG_HOME`` or the user's data folder."""
    return Path(os.environ.get("CXR_RAG_HOME") or platformdirs.user_data_dir("cxr-rag"))


def _vllm_python() -> Path:
    """The interpreter of the environment ``.venv-llm`` beside the one that runs this."""
    return Path(sys.prefix).parent / ".venv-llm" / "bin" / "python"


def _checked_url(url: str) -> str:
    TypeAdapter(HttpUrl).validate_python(url)
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_checked_url)]
"""An http or https URL, without a slash at its end."""

UrlOrEmpty = Annotated[str, AfterValidator(lambda url: url and _checked_url(url))]
"""The same, or nothing."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LlmServerSettings(_Section):
    """The server that `cxr-rag` starts itself when nothing answers at ``llm.url``.

    Attributes:
        enabled: false when the URL belongs to a server that is run by somebody else.
        python: interpreter of the environment that holds vLLM.
        weights: "smollm2" (prepared from its package), or a folder or hub name vLLM can load.
        max_model_len: context length in tokens.
        kv_cache_gib: memory for the KV cache on a CPU.
        dtype: as vLLM spells it; "cpu" is bfloat16 on a processor that computes in it, and float32
            on one that only imitates it, which is several times as fast there.
        args: further arguments, as vLLM spells them.
        start_seconds: how long to wait until it is healthy.
    """

    enabled: bool = True
    python: Path = Field(default_factory=_vllm_python)
    weights: str = "smollm2"
    max_model_len: int = Field(default=4096, ge=512)
    kv_cache_gib: int = Field(default=1, ge=1)
    dtype: Literal["auto", "cpu", "float32", "bfloat16", "float16"] = "auto"
    args: tuple[str, ...] = ()
    start_seconds: float = Field(default=600, gt=0)


class LlmSettings(_Section):
    """The language model: any OpenAI-compatible server.

    Attributes:
        enabled: false asks no model: a draft is what the similar reports agree on.
        url: base URL up to and including /v1.
        model: name the server knows the model by.
        api_key: sent as a bearer token; local servers ignore it. Never shown.
        template: name of the prompt template; it says how the model drafts.
        max_tokens: longest answer.
        timeout_seconds: longest wait for one whole answer.
        retries: further attempts when the server is busy or breaks off.
    """

    enabled: bool = True
    url: Url = "http://127.0.0.1:8100/v1"
    model: str = "smollm2-135m-instruct"
    api_key: str = Field(default="not-needed", repr=False)
    template: str = "select_v1"
    max_tokens: int = Field(default=512, ge=16)
    timeout_seconds: float = Field(default=120, gt=0)
    retries: int = Field(default=2, ge=0)
    server: LlmServerSettings = LlmServerSettings()


class RetrievalSettings(_Section):
    """How reports are found and which become evidence; docs/experiments.md has the measures.

    Attributes:
        k: how many are shown to the model and to the reader.
        fetch_k: so many of the nearest are looked at before ``k`` are chosen.
        label_penalty: cosine similarity that one label costs on which image and report disagree.
        by: what an image is compared with: the reports' "text", the indexed studies' own "image"s,
            whose reports then come back, or "both", fused by reciprocal rank; "auto" is text, or
            image where the encoder embeds images alone. Images: `cxr-rag index --images`.
    """

    k: int = Field(default=5, ge=1, le=50)
    fetch_k: int = Field(default=300, ge=1, le=1000)
    label_penalty: float = Field(default=0.05, ge=0, le=1)
    by: Literal["auto", "text", "image", "both"] = "auto"


class DraftingSettings(_Section):
    """What a draft may say; see docs/drafting.md.

    Attributes:
        false_finding_rate: largest share of drafts that may state a finding their reference does
            not, on studies like those of the calibration; lower is more cautious.
        false_denial_rate: the same for drafts that deny what must not be missed and is there.
        calibration: file of `cxr-rag calibrate`; None takes the one in the encoder's folder.
    """

    false_finding_rate: float = Field(default=0.15, gt=0, lt=1)
    false_denial_rate: float = Field(default=0.02, gt=0, lt=1)
    calibration: Path | None = None


class AbstentionSettings(_Section):
    """Limit beyond which nothing is drafted, though the evidence is shown.

    Attributes:
        similarity: the nearest report must be at least so similar to the image.
    """

    similarity: float = Field(default=0.1, ge=-1, le=1)


class PageSettings(_Section):
    """The reading room.

    Attributes:
        host, port: where it listens; anything but the loopback address wants a login.
        max_upload_mb: MB of one image; a request may hold four of them.
        delete_uploads_after_seconds: uploads, drafts and exports are gone after this.
        drafts_at_once: how many are made side by side; the rest wait and see their place.
        requests_per_minute: of one reader or address; more are answered with 429.
        users: file of names and password hashes (`python -m reading_room.login`); None: no login.
        user_header: header in which a reverse proxy names the reader, e.g. "X-Remote-User".
        trusted_proxies: addresses that this header and X-Forwarded-* are believed from.
        hosts: further names the page is called by, e.g. behind a reverse proxy.
        root_path: path below which a reverse proxy serves the page, e.g. "/cxr".
        audit: whether every draft, edit and signature goes to the audit record.
        worklist: folder of studies, as `cxr-rag receive` fills it: the page opens on a list of them
            and drafts them ahead. None: the page waits for images.
        worklist_from: DICOMweb server ("https://server/dicom-web") whose radiographs of today come
            into that folder.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=0, le=65535)
    max_upload_mb: int = Field(default=100, ge=1)
    delete_uploads_after_seconds: int = Field(default=3600, ge=60)
    drafts_at_once: int = Field(default=2, ge=1)
    requests_per_minute: int = Field(default=600, ge=1)
    users: Path | None = None
    user_header: str = ""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    hosts: tuple[str, ...] = ()
    root_path: str = Field(default="", pattern=r"^(/[\w.-]+)*$")
    audit: bool = True
    worklist: Path | None = None
    worklist_from: UrlOrEmpty = ""


class DicomSettings(_Section):
    """DICOM associations, with whom we ask (`dimse`) and who sends (`receive`).

    Attributes:
        ae_title: ours.
        peers: who may send to us: "TITLE@ADDRESS", as "PACS@10.1.2.3" or "PACS@10.1.2.0/24".
        tls_certificate, tls_key: ours, in PEM; with them every association is encrypted.
        tls_authority: PEM file of who signed the peers' certificates; None: the system's.
    """

    ae_title: str = "CXRRAG"
    peers: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None


class BatchSettings(_Section):
    """Many studies at once.

    Attributes:
        num_workers: threads (with Ray: workers) that read, decode and encode images.
        max_concurrency: drafts under way at the model server at once.
        outage_timeout_s: a model server that answers nobody for so long ends the run.
    """

    num_workers: int = Field(default=2, ge=1)
    max_concurrency: int = Field(default=16, ge=1)
    outage_timeout_s: float = Field(default=300, ge=0)


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes:
        home: where the index, the prepared LLM, the audit record and logs live.
        index_dir: the report index; by default the folder "index" in ``home``.
        chroma_url: of a Chroma server that holds the index's collections, e.g.
            "http://127.0.0.1:8000"; empty: they lie in ``index_dir``.
        prompt_dir: folder of prompt templates; None: those that ship.
        encoder: as in `encoders.registry`: "eclip" ships, a folder, "hf:ID", ...
        encoder_backend: "auto" runs the image side of an eCLIP encoder in ONNX Runtime where it can
            be, "torch" never.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__"
    )

    home: Path = Field(default_factory=default_home)
    index_dir: Path = Field(default_factory=lambda values: values["home"] / "index")
    chroma_url: UrlOrEmpty = ""
    prompt_dir: Path | None = None
    encoder: str = "eclip"
    encoder_backend: Literal["auto", "torch"] = "auto"
    llm: LlmSettings = LlmSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    drafting: DraftingSettings = DraftingSettings()
    abstention: AbstentionSettings = AbstentionSettings()
    page: PageSettings = PageSettings()
    batch: BatchSettings = BatchSettings()
    dicom: DicomSettings = DicomSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which arrives as constructor arguments."""
        return env_settings, init_settings

    @property
    def llm_dir(self) -> Path:
        """The small LLM in the form that vLLM serves."""
        return self.home / "llm" / "smollm2-135m-instruct"

    @property
    def audit_file(self) -> Path:
        """The record of every draft, edit and signature of the page."""
        return self.home / "audit" / "audit.jsonl"

    @property
    def log_dir(self) -> Path:
        """Output of the servers that we start."""
        return self.home / "logs"
