"""The child process that decompresses one DICOM frame at a time.

The decoders are native code that does not expect hostile input: on broken streams GDCM aborts the
process and CharLS runs for minutes. Here that costs one frame. `encoders.dicom.codecs` starts it as
a script; it imports nothing of the project, and each decoder only when a frame needs it.

A request is JSON (see `encoders.dicom.codecs.decode`), then the frame. The answer is JSON,
{"error"} or {"dtype", "shape"}, then the pixels, [rows, columns] or [rows, columns, samples].
"""

import io
import json
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_LIMIT = 3 * 1024**3
"""Bytes of address space: four times what the largest allowed image needs."""

Pixels = NDArray[Any]
Request = dict[str, Any]


def jpeg(frame: bytes, request: Request) -> Pixels:
    """8-bit sequential or progressive DCT: libjpeg-turbo through Pillow."""
    from PIL import Image  # noqa: PLC0415

    image = Image.open(io.BytesIO(frame), formats=("JPEG",))
    marked = {"adobe_transform", "jfif"} & image.info.keys()
    if image.mode == "RGB":
        # libjpeg takes unmarked colour for YCbCr, which the DICOM header may contradict. Drafting
        # as YCbCr returns the components unconverted, as L the stored Y.
        is_rgb = request["colour"] == "RGB" and not marked
        image.draft("YCbCr" if is_rgb else "L", image.size)
    return np.asarray(image.convert("RGB").convert("L") if image.mode == "CMYK" else image)


def gdcm_jpeg(frame: bytes, request: Request) -> Pixels:
    """Lossless JPEG and 12-bit DCT, which Pillow does not support: GDCM.

    Not through pydicom's decoder, whose import triples a worker's start-up time.
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
    rows, columns, samples, bits = (request[key] for key in ("rows", "columns", "samples", "bits"))
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2" if samples == 1 else "RGB")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(0)
    # GDCM reads the process from the stream; the syntax only selects its JPEG codec.
    syntax = gdcm.TransferSyntax.GetTSType("1.2.840.10008.1.2.4.70")
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    allocated = 8 if bits <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, 0))
    # GDCM returns char* as str
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    pixels = np.frombuffer(buffer, dtype="u1" if allocated == 8 else "<u2")
    return pixels.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


def jpeg_ls(frame: bytes, _: Request) -> Pixels:
    """JPEG-LS, lossless and near-lossless: CharLS."""
    import jpeg_ls  # type: ignore[import-untyped]  # noqa: PLC0415

    return np.asarray(jpeg_ls.jlsread(io.BytesIO(frame)))


def jpeg_2000(frame: bytes, request: Request) -> Pixels:
    """JPEG 2000 and High-Throughput JPEG 2000: OpenJPEG.

    A lower resolution level of unsigned grey by Pillow, which decodes only that part of the stream.
    """
    if not request["halvings"]:
        import openjpeg  # noqa: PLC0415

        return np.asarray(openjpeg.decode(frame))  # type: ignore[attr-defined]
    from PIL import Image  # noqa: PLC0415

    image = Image.open(io.BytesIO(frame), formats=("JPEG2000",))
    image.reduce = request["halvings"]  # type: ignore[method-assign]
    image.load()
    if image.mode not in ("L", "I;16"):
        raise ValueError(f"mode {image.mode}")
    pixels = np.asarray(image)
    shift = 8 * pixels.dtype.itemsize - request["bits"]  # Pillow scales values to 8 or 16 bits
    return np.asarray(pixels >> shift)


def rle(frame: bytes, request: Request) -> Pixels:
    """RLE Lossless (PS3.5 Annex G): pydicom."""
    from pydicom.encaps import encapsulate  # noqa: PLC0415
    from pydicom.pixels.decoders.base import RLELosslessDecoder  # noqa: PLC0415

    options: dict[str, Any] = {
        "rows": request["rows"],
        "columns": request["columns"],
        "samples_per_pixel": request["samples"],
        "bits_allocated": request["bits_allocated"],
        "bits_stored": request["bits_allocated"],
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


def handle_request(request: Request, frame: bytes, connection: Connection) -> None:
    """Decode one frame and send the answer."""
    try:
        pixels = np.ascontiguousarray(DECODERS[request["codec"]](frame, request))
        data = pixels.data.cast("B")
        answer: dict[str, Any] = {"dtype": pixels.dtype.str, "shape": pixels.shape}
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises is this frame's error
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    connection.send_bytes(json.dumps(answer).encode())
    if "error" not in answer:
        connection.send_bytes(data)


def main() -> None:
    """Serve requests until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with suppress(ValueError, OSError):  # a lower limit is already set
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError):
        while True:
            request: Request = json.loads(connection.recv_bytes())
            frame = connection.recv_bytes()
            signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])  # SIGPROF kills it then
            handle_request(request, frame, connection)
            signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
