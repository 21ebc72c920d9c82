"""The product's exceptions. Every message names the bad value and what to do about it.

Other subclasses of CxrRagError are defined where they are raised; `encoders` has its own:
ImageReadError, EncoderError.
"""

from collections.abc import Iterable


class CxrRagError(Exception):
    """An error that is explained to the user in one sentence."""


class UsageError(CxrRagError):
    """The request is invalid, and nothing was done. Commands exit with 2."""


class SettingsError(UsageError):
    """A setting is unknown or out of range."""


class EncoderUnavailableError(CxrRagError):
    """An encoder's weights, or parts trained on its vectors, are missing, damaged or mismatched."""


class CalibrationError(CxrRagError):
    """A calibration is missing or damaged, or has too few studies."""


class NoDraft(CxrRagError):  # noqa: N818 - not a fault; recorded in predictions by this name
    """Nothing may be drafted from this study; its prediction has status "abstained".

    Attributes:
        notes: for the reader, beside the reason.
    """

    def __init__(self, reason: str, *, notes: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.notes = tuple(notes)


class NotAChestXray(NoDraft):
    """By header, colours or pixels, it is not an adult chest X-ray."""


class BlankImage(NoDraft):
    """Every pixel has the same value."""


class NoGround(NoDraft):
    """The evidence does not suffice for a draft."""


class CorpusError(CxrRagError):
    """A report collection cannot be read."""


class StoreError(CxrRagError):
    """An error of the report index."""


class StoreMissingError(StoreError):
    """Nothing has been indexed yet."""


class StoreInUseError(StoreError):
    """Another process is writing the index."""


class StoreMismatchError(StoreError):
    """The index was built with another encoder, preprocessing or format."""


class LlmError(CxrRagError):
    """An error of the language model or its server."""


class LlmUnavailableError(LlmError):
    """Nothing answers at the URL, or the answer broke off; a retry may help.

    Attributes:
        retry_after: seconds to wait, if the server said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LlmBusyError(LlmUnavailableError):
    """The server is overloaded."""


class LlmRejectedError(LlmError):
    """The server answered with an error that a retry would not fix."""


class LlmOutputError(LlmError):
    """The model's answer is not a draft."""


class LlmCutOffError(LlmOutputError):
    """The answer exceeds ``llm.max_tokens``."""


class LlmEmptyError(LlmOutputError):
    """The answer is empty, or no sentence of it can be used."""


class LlmFormError(LlmOutputError):
    """The answer is not JSON, or does not match the schema."""


class LlmRefusalError(LlmOutputError):
    """The model, or a content filter, declined."""


class LlmLanguageError(LlmOutputError):
    """The answer is not in the language of the evidence."""


class LlmLoopError(LlmOutputError):
    """The answer repeats itself."""


class BatchError(CxrRagError):
    """A batch was stopped."""


class OutputError(BatchError):
    """Predictions cannot be written; earlier ones stay."""


class ServerError(CxrRagError):
    """A server of the demo did not start."""
