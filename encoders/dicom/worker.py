"""The child process that decompresses one DICOM frame at a time.

The decoders are native code that was written for friendly input: fuzzed, GDCM ends the whole
process on a broken JPEG stream, CharLS runs for minutes on another. Here that costs one frame.
Started by `encoders.dicom.codecs` as a script; imports nothing of the project, and each decoder
only when a frame needs it.

A request is JSON (see `encoders.dicom.codecs.decode`) and the frame. The answer is JSON, {"error"}
or {"dtype", "shape"} and then the pixels, [rows, columns] or [rows, columns, samples].
"""

import io
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_LIMIT = 3 * 1024**3
"""Bytes of address space of this process: four times what the largest allowed image takes."""

Pixels = NDArray[Any]
Request = dict[str, Any]


def jpeg(frame: bytes, request: Request) -> Pixels:
    """8-bit sequential or progressive DCT: libjpeg-turbo by way of Pillow."""
    from PIL import Image  # noqa: PLC0415

    image = Image.open(io.BytesIO(frame), formats=("JPEG",))
    marked = {"adobe_transform", "jfif"} & image.info.keys()
    if request["colour"] == "RGB" and image.mode == "RGB" and not marked:
        # libjpeg takes unmarked colour for YCbCr; the header knows better. Asking for YCbCr is
        # asking for the components as they are.
        image.draft("YCbCr", image.size)
    elif image.mode == "RGB":
        image.draft("L", image.size)  # the Y that is stored, not made again from RGB
    return np.asarray(image.convert("RGB").convert("L") if image.mode == "CMYK" else image)


def gdcm_jpeg(frame: bytes, request: Request) -> Pixels:
    """Lossless JPEG and 12-bit DCT, which Pillow does not know: GDCM.

    Not by way of pydicom's decoder: importing it triples the time that a worker takes to start.
    """
    import gdcm  # type: ignore[import-untyped]  # noqa: PLC0415

    gdcm.Trace.ErrorOff()
    gdcm.Trace.WarningOff()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    samples, bits = request["samples"], request["bits"]
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((request["columns"], request["rows"], 1))
    image.SetDataElement(element)
    interpretation = "MONOCHROME2" if samples == 1 else "RGB"
    kind = gdcm.PhotometricInterpretation.GetPIType(interpretation)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(0)
    # GDCM reads the process from the stream; this name only chooses its JPEG codec.
    syntax = gdcm.TransferSyntax.GetTSType("1.2.840.10008.1.2.4.70")
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    allocated = 8 if bits <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, 0))
    # GDCM returns char* as str
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    shape = (request["rows"], request["columns"], samples)
    pixels = np.frombuffer(buffer, dtype="u1" if allocated == 8 else "<u2").reshape(shape)
    return pixels[..., 0] if samples == 1 else pixels


def jpeg_ls(frame: bytes, _: Request) -> Pixels:
    """JPEG-LS, lossless and near-lossless: CharLS."""
    import jpeg_ls  # type: ignore[import-untyped]  # noqa: PLC0415

    return np.asarray(jpeg_ls.jlsread(io.BytesIO(frame)))


def jpeg_2000(frame: bytes, request: Request) -> Pixels:
    """JPEG 2000 and High-Throughput JPEG 2000: OpenJPEG; smaller, by Pillow."""
    if request["halvings"]:
        return _small_jpeg_2000(frame, request)
    import openjpeg  # noqa: PLC0415

    return np.asarray(openjpeg.decode(frame))  # type: ignore[attr-defined]


def _small_jpeg_2000(frame: bytes, request: Request) -> Pixels:
    """A lower resolution level of unsigned grey: only that part of the stream is decoded."""
    from PIL import Image  # noqa: PLC0415

    image = Image.open(io.BytesIO(frame), formats=("JPEG2000",))
    image.reduce = request["halvings"]  # type: ignore[method-assign]
    image.load()
    if image.mode not in ("L", "I;16"):
        raise ValueError(f"mode {image.mode}")
    pixels = np.asarray(image)
    filled = 8 * pixels.dtype.itemsize - request["bits"]  # zeros that Pillow puts below each value
    return np.asarray(pixels >> filled)


def rle(frame: bytes, request: Request) -> Pixels:
    """RLE Lossless (PS3.5 Annex G): pydicom."""
    from pydicom.encaps import encapsulate  # noqa: PLC0415
    from pydicom.pixels.decoders.base import RLELosslessDecoder  # noqa: PLC0415

    options: dict[str, Any] = {
        "rows": request["rows"],
        "columns": request["columns"],
        "samples_per_pixel": request["samples"],
        "bits_allocated": request["allocated"],
        "bits_stored": request["allocated"],
        "pixel_representation": 0,
        "planar_configuration": 1,
        "number_of_frames": 1,
        "photometric_interpretation": "MONOCHROME2" if request["samples"] == 1 else "RGB",
    }
    pixels, _ = RLELosslessDecoder.as_array(encapsulate([frame]), index=0, raw=True, **options)
    return np.asarray(pixels)


DECODERS: dict[str, Callable[[bytes, Request], Pixels]] = {
    "jpeg": jpeg,
    "gdcm": gdcm_jpeg,
    "jpeg-ls": jpeg_ls,
    "jpeg-2000": jpeg_2000,
    "rle": rle,
}


def answer(request: Request, frame: bytes, connection: Connection) -> None:
    """Decode one frame and send what came of it."""
    try:
        pixels = np.ascontiguousarray(DECODERS[request["codec"]](frame, request))
        data = pixels.data.cast("B")
        head: dict[str, Any] = {"dtype": pixels.dtype.str, "shape": pixels.shape}
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises is this frame's error
        head = {"error": f"{type(error).__name__}: {error}"[:300]}
    connection.send_bytes(json.dumps(head).encode())
    if "error" not in head:
        connection.send_bytes(data)


def limit_processor(seconds: float) -> None:
    """End this process after so many seconds of the processor, by SIGPROF; 0 calls that off."""
    if hasattr(signal, "setitimer"):  # else the parent's clock still holds
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main() -> None:
    """Serve frames until the connection ends, that is, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system: the parent's clock still holds
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError):
        while True:
            request: Request = json.loads(connection.recv_bytes())
            frame = connection.recv_bytes()
            limit_processor(request["seconds"])
            answer(request, frame, connection)
            limit_processor(0)


if __name__ == "__main__":
    main()
