"""Fetches and receives images from a picture archive, and stores reports there.

`dicomweb` fetches by QIDO-RS and WADO-RS and stores by STOW-RS; `dimse` fetches by C-FIND and C-GET
or C-MOVE; `receiver` accepts images by C-STORE. All write to an `inbox` folder, which `rag.batch`
then reads: nothing here decodes pixels.
"""

import logging

from rag.errors import CxrRagError


class PacsError(CxrRagError):
    """The peer refused, does not answer, or sent something unusable.

    The message contains no header value and no UID.
    """


def silence_logger(package: str) -> None:
    """Silence a library whose log names studies, except at level DEBUG."""
    if logging.getLogger().getEffectiveLevel() > logging.DEBUG:
        logging.getLogger(package).setLevel(logging.CRITICAL)
