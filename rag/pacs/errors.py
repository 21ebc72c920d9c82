"""Why something did not come from, or go to, a PACS."""

from rag.errors import CxrRagError


class PacsError(CxrRagError):
    """The other side refused, is not there, or sent what cannot be taken.

    The message holds no identifier: neither a header's value nor a UID.
    """
