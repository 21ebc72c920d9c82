"""The report store: vectors, records and Chroma's index of them in one directory.

`open_store` opens it, `ReportStore` answers queries; `server` runs Chroma's own server over it. The
only package that imports chromadb (`client`, `chroma`). `rag.index` builds what is opened here.
"""

from rag.store.opening import open_store
from rag.store.report_store import ReportStore, SearchMode

__all__ = ["ReportStore", "SearchMode", "open_store"]
