"""The exceptions of the product; all are explained to a user in a sentence.

Every message says what was wrong, with the value, and what to do about it. Further children of
CxrRagError are where they are raised; `encoders` has its own: ImageReadError, EncoderError.
"""

from collections.abc import Iterable


class CxrRagError(Exception):
    """Anything we can explain to a user in one sentence, with its cure."""


class UsageError(CxrRagError):
    """What was asked for cannot be done so, and nothing was done. Commands exit with 2."""


class SettingsError(UsageError):
    """A setting is unknown or out of range."""


class EncoderUnavailableError(CxrRagError):
    """An encoder's weights, or parts trained on its vectors, are missing, damaged or do not fit."""


class CalibrationError(CxrRagError):
    """A calibration is missing or damaged, or there are too few studies for one."""


class NoDraft(CxrRagError):  # noqa: N818 - a verdict, no mistake; predictions name its class
    """Nothing may be drafted from this study; the prediction has the status "abstained".

    Attributes:
        notes: what the reader should know besides.
    """

    def __init__(self, reason: str, *, notes: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.notes = tuple(notes)


class NotAChestXray(NoDraft):
    """It is no adult chest X-ray, by the header, its colours or its pixels."""


class BlankImage(NoDraft):
    """Every pixel has the same value."""


class NoGround(NoDraft):
    """The evidence is no ground for a draft."""


class CorpusError(CxrRagError):
    """A report collection cannot be read at all."""


class StoreError(CxrRagError):
    """The vector store."""


class StoreMissingError(StoreError):
    """Nothing has been indexed yet."""


class StoreInUseError(StoreError):
    """Another process owns the store's directory."""


class StoreMismatchError(StoreError):
    """The store was made by another encoder, preprocessing or format."""


class LlmError(CxrRagError):
    """The language model."""


class LlmUnavailableError(LlmError):
    """Nothing answers at the URL, or it stopped answering. Asking again may help.

    Attributes:
        retry_after: seconds the server asked us to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LlmBusyError(LlmUnavailableError):
    """The server has too much to do; it will answer later."""


class LlmRejectedError(LlmError):
    """The server answered with an error."""


class LlmOutputError(LlmError):
    """The model answered with something that is not a draft."""


class LlmCutOffError(LlmOutputError):
    """The answer was longer than ``llm.max_tokens``."""


class LlmEmptyError(LlmOutputError):
    """The answer holds nothing, or nothing that can be used."""


class LlmFormError(LlmOutputError):
    """The answer is not JSON, or not what the schema asks for."""


class LlmRefusalError(LlmOutputError):
    """The model, or a filter before it, declined."""


class LlmLanguageError(LlmOutputError):
    """The answer is not in the language of the evidence."""


class LlmLoopError(LlmOutputError):
    """The answer says the same over and over."""


class BatchError(CxrRagError):
    """Many studies at once: the run was stopped."""


class OutputError(BatchError):
    """Predictions cannot be written, or no longer; what was written stays."""


class ServerError(CxrRagError):
    """One of the demo's own servers would not start."""
