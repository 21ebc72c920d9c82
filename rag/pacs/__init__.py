"""The picture archive: images come from it, signed and unsigned reports go back to it.

`inbox` puts what arrives into a folder, under names of our own; `dicomweb` asks a server for a
study and stores a report there; `dimse` asks by C-FIND, C-GET and C-MOVE; `receiver` waits for
images that are sent. What is in the folder then goes the ordinary way (`rag.batch`): nothing here
looks at pixels.
"""

import logging

from rag.errors import CxrRagError


class PacsError(CxrRagError):
    """The other side refused, is not there, or sent what cannot be taken.

    The message holds no identifier: neither a header's value nor a UID.
    """


def silence_logger(package: str) -> None:
    """Silence a library whose log names studies; only who asks for everything gets it."""
    if logging.getLogger().getEffectiveLevel() > logging.DEBUG:
        logging.getLogger(package).setLevel(logging.CRITICAL)
