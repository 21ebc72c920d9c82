"""All settings but those of training.

The environment (``CXR_RAG_LLM__URL=...``) overrides the file of ``--config`` or a preset of
rag/presets/, which overrides the defaults below.
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
    """``CXR_RAG_HOME``, or the user's data folder."""
    return Path(os.environ.get("CXR_RAG_HOME") or platformdirs.user_data_dir("cxr-rag"))


def _vllm_python() -> Path:
    """The interpreter of ``.venv-llm``, beside the running environment."""
    return Path(sys.prefix).parent / ".venv-llm" / "bin" / "python"


def _validate_url(url: str) -> str:
    TypeAdapter(HttpUrl).validate_python(url)
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_validate_url)]
"""An http or https URL, without a trailing slash."""

UrlOrEmpty = Annotated[str, AfterValidator(lambda url: url and _validate_url(url))]
"""The same, or empty."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LlmServerSettings(_Section):
    """The vLLM server that `cxr-rag` starts if nothing answers at ``llm.url``.

    Attributes:
        enabled: false if that server is not ours to start.
        python: interpreter of vLLM's environment.
        weights: "smollm2" (converted from its package), or a folder or hub name vLLM can load.
        max_model_len: context length in tokens.
        kv_cache_gib: memory for the KV cache on a CPU.
        dtype: as for vLLM; "cpu" is bfloat16 on processors that compute in it, and float32 on those
            that emulate it, where that is several times as fast.
        args: further vLLM arguments.
        start_seconds: maximum wait until it is ready.
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
        enabled: false drafts without a model, what similar reports agree on.
        url: base URL, usually ending in /v1.
        model: its name on the server.
        api_key: bearer token; never shown.
        template: name of the prompt template, which decides how the model drafts.
        max_tokens: maximum length of an answer.
        timeout_seconds: maximum time for a complete answer.
        retries: after a server was busy or broke off.
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
    """How reports are retrieved (docs/retrieval.md).

    Attributes:
        k: number of reports shown to the model and the reader.
        fetch_k: size of the pool they are chosen from.
        label_penalty: cosine similarity that each label costs on which image and report disagree.
        by: what an image is compared with: the reports' "text", the images of indexed studies
            ("image"; needs `cxr-rag index --images`), or "both", fused by reciprocal rank; "auto"
            is text, or image if the encoder embeds images only.
    """

    k: int = Field(default=5, ge=1, le=50)
    fetch_k: int = Field(default=300, ge=1, le=1000)
    label_penalty: float = Field(default=0.05, ge=0, le=1)
    by: Literal["auto", "text", "image", "both"] = "auto"


class DraftingSettings(_Section):
    """What a draft may say (docs/drafting.md).

    Attributes:
        false_finding_rate: maximum share of drafts that state a finding their reference does not,
            on studies like those of the calibration.
        false_denial_rate: maximum share that deny a must-not-miss finding that is present.
        calibration: file of `cxr-rag calibrate`; None takes the encoder's own.
    """

    false_finding_rate: float = Field(default=0.15, gt=0, lt=1)
    false_denial_rate: float = Field(default=0.02, gt=0, lt=1)
    calibration: Path | None = None


class AbstentionSettings(_Section):
    """When nothing is drafted, though the evidence is shown.

    Attributes:
        similarity: minimum similarity of the nearest report.
    """

    similarity: float = Field(default=0.1, ge=-1, le=1)


class PageSettings(_Section):
    """The reading room.

    Attributes:
        host, port: listening address; other than loopback it requires a login.
        max_upload_mb: maximum size of an image; a request may have four.
        delete_uploads_after_seconds: lifetime of uploads, drafts and exports.
        drafts_at_once: maximum concurrent drafts; others wait and see their place.
        requests_per_minute: limit per reader or address; beyond it the answer is 429.
        users: file of names and password hashes (`python -m reading_room.login`); None: no login.
        user_header: header in which a reverse proxy names the reader, e.g. "X-Remote-User".
        trusted_proxies: addresses from which that header and X-Forwarded-* are accepted.
        hosts: further host names of the page, e.g. behind a reverse proxy.
        root_path: path at which a reverse proxy serves the page, e.g. "/cxr".
        audit: whether drafts, edits and signatures are recorded.
        worklist: folder of studies, as filled by `cxr-rag receive`, to be listed and drafted ahead;
            None: the page waits for images.
        worklist_from: DICOMweb server ("https://server/dicom-web") from which today's radiographs
            are fetched into that folder.
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
    """DICOM associations of `cxr-rag dimse` and `cxr-rag receive`.

    Attributes:
        ae_title: our AE title.
        peers: allowed senders: "PACS@10.1.2.3" or "PACS@10.1.2.0/24".
        tls_certificate, tls_key: our PEM files; with them every association is encrypted.
        tls_authority: PEM file of the CA of the peers' certificates; None: the system's.
    """

    ae_title: str = "CXRRAG"
    peers: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None


class BatchSettings(_Section):
    """Batches.

    Attributes:
        num_workers: threads (with Ray: actors) that read and encode images.
        max_concurrency: maximum concurrent drafts.
        outage_timeout_s: the run ends after the model server has not answered for so long.
    """

    num_workers: int = Field(default=2, ge=1)
    max_concurrency: int = Field(default=16, ge=1)
    outage_timeout_s: float = Field(default=300, ge=0)


class Settings(BaseSettings):
    """All settings, frozen.

    Attributes:
        home: folder of the index, the converted LLM, the audit record and logs.
        index_dir: the report index; by default "index" in ``home``.
        chroma_url: Chroma server with the index's collections, e.g. "http://127.0.0.1:8000";
            empty: they are in ``index_dir``.
        prompt_dir: folder of prompt templates; None: the shipped ones.
        encoder: see `encoders.registry`: "eclip" (shipped), a folder, "hf:ID", ...
        encoder_backend: "auto" runs an eCLIP image encoder in ONNX Runtime if it can be exported.
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
        """The environment overrides the file, which is passed as constructor arguments."""
        return env_settings, init_settings

    @property
    def llm_dir(self) -> Path:
        """SmolLM2, converted for vLLM."""
        return self.home / "llm" / "smollm2-135m-instruct"

    @property
    def audit_file(self) -> Path:
        """Drafts, edits and signatures of the page."""
        return self.home / "audit" / "audit.jsonl"

    @property
    def log_dir(self) -> Path:
        """Logs of the servers that we start."""
        return self.home / "logs"
