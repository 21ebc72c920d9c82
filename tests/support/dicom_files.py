"""DICOM files for the tests, drawn and written here: no image of anybody."""

import copy
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, generate_uid

GOLDEN = Path(__file__).parent.parent / "golden"

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE = "1.2.840.10008.1.2.5"

UNCOMPRESSED = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
LOSSLESS = (RLE, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000_LOSSLESS)
LOSSY = (JPEG_LS_NEAR, JPEG_2000)

Pixels = NDArray[Any]


def ramp(bits: int = 12, *, rows: int = 48, columns: int = 64, signed: bool = False) -> Pixels:
    """A smooth image: every row rises over most of the range, the rows shifted a little."""
    top = (1 << bits) - 1
    across = np.linspace(0.02, 0.9, columns)[None, :]
    down = np.linspace(0.0, 0.08, rows)[:, None]
    values = np.rint((across + down) * top).astype(np.int64)
    if signed:
        return (values - (1 << (bits - 1))).astype(np.int8 if bits <= 8 else np.int16)
    return values.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def lut_item(entries: NDArray[Any], *, first: int, bits: int, count: int | None = None) -> Dataset:
    """One item of a LUT sequence, with its data as OW words."""
    item = Dataset()
    number = (len(entries) if count is None else count) & 0xFFFF
    item.add_new(
        "LUTDescriptor", "SS" if first < 0 else "US", [_signed(number, first), first, bits]
    )
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def _signed(number: int, first: int) -> int:
    return number - 65536 if first < 0 and number > 32767 else number


def dicom(pixels: Pixels, *, syntax: str = EXPLICIT, **attributes: Any) -> bytes:
    """Write an image. Attributes replace the defaults; None leaves one out.

    ``pixels`` is [rows, columns], [rows, columns, 3], or with frames in front.
    """
    dataset = _dataset(pixels, copy.deepcopy(attributes))  # big endian swaps LUTs in place
    if UID(syntax).is_compressed and syntax != DEFLATED:
        frames = pixels if dataset.get("NumberOfFrames") not in (None, "", 1) else pixels[None]
        _encapsulate(dataset, [compress(frame, syntax, dataset) for frame in frames])
    return write(dataset, syntax)


def ready_made_dicom(name: str, *, syntax: str, **attributes: Any) -> bytes:
    """An image whose pixel data is a ready-made codestream."""
    dataset = _dataset(ramp(12), {"BitsStored": 12, **attributes})
    _encapsulate(dataset, [ready_made(name)])
    return write(dataset, syntax)


def _encapsulate(dataset: Dataset, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


def write(dataset: Dataset, syntax: str) -> bytes:
    """The file's bytes, preamble and meta header included."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if syntax == BIG_ENDIAN:
        _swap(dataset, "PixelData", size=max(dataset.BitsAllocated // 8, 2))
        for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
            for item in dataset.get(keyword, []):
                _swap(item, "LUTData", size=2)
    out = io.BytesIO()
    dcmwrite(
        out,
        dataset,
        implicit_vr=syntax == IMPLICIT,
        little_endian=syntax != BIG_ENDIAN,
        enforce_file_format=True,
    )
    return out.getvalue()


def write_header(path: Path, **elements: object) -> Path:
    """Write a file that has these elements and no pixels; its folder is made."""
    dataset = Dataset()
    dataset.SOPInstanceUID = generate_uid()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write(dataset, EXPLICIT))
    return path


def _swap(dataset: Dataset, keyword: str, *, size: int) -> None:
    """Big endian words of an OW element: pydicom writes them as they are."""
    if dataset[keyword].VR == "OW":
        words = np.frombuffer(dataset[keyword].value, f"<u{size}")
        dataset[keyword].value = words.astype(f">u{size}").tobytes()


def _dataset(pixels: Pixels, attributes: Mapping[str, Any]) -> Dataset:
    """A DX image of a phantom, with the default attributes that ``pixels`` calls for."""
    colour = pixels.shape[-1] == 3
    shape = pixels.shape[:-1] if colour else pixels.shape
    bits = pixels.dtype.itemsize * 8
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["cxr-rag tests"])
    dataset.PatientName = "PHANTOM^TEST"
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PixelSpacing = [0.15, 0.15]
    dataset.Rows, dataset.Columns = shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    if len(shape) == 3:
        dataset.NumberOfFrames = shape[0]
    dataset.BitsAllocated = bits
    dataset.BitsStored = attributes.get("BitsStored", bits)
    dataset.HighBit = (dataset.BitsStored or bits) - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        elif keyword == "elements":
            for tag, (vr, content) in value.items():
                dataset.add_new(tag, vr, content)
        elif isinstance(value, list) and value and isinstance(value[0], Dataset):
            setattr(dataset, keyword, Sequence(value))
        else:
            setattr(dataset, keyword, value)
    return dataset


def compress(frame: Pixels, syntax: str, dataset: Dataset) -> bytes:
    """One frame as a codestream of the transfer syntax."""
    bits = int(dataset.BitsStored)
    if syntax == RLE:
        return _rle(frame)
    if syntax in (JPEG_LS, JPEG_LS_NEAR):
        unsigned = frame.view(frame.dtype.str.replace("i", "u"))
        return bytes(jpeg_ls.encode_array(unsigned, lossy_error=int(syntax == JPEG_LS_NEAR)))
    if syntax in (JPEG_2000, JPEG_2000_LOSSLESS):
        lossy = {"signal_noise_ratios": [90]} if syntax == JPEG_2000 else {}
        kind = 1 if frame.ndim == 3 else 2
        return bytes(
            encode_array(
                frame, bits_stored=bits, photometric_interpretation=kind, use_mct=False, **lossy
            )
        )
    if syntax == JPEG_BASELINE:
        return _jpeg(frame)
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        predictor = 1 if syntax == JPEG_LOSSLESS_SV1 else 4
        return lossless_jpeg(frame, bits=bits, predictor=predictor)
    raise NotImplementedError(syntax)


def _rle(frame: Pixels) -> bytes:
    return bytes(
        get_encoder(RLE).encode(
            frame.view(frame.dtype.str.replace("i", "u")).tobytes(),
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=3 if frame.ndim == 3 else 1,
            bits_allocated=frame.dtype.itemsize * 8,
            bits_stored=frame.dtype.itemsize * 8,
            pixel_representation=0,
            planar_configuration=0,
            photometric_interpretation="RGB" if frame.ndim == 3 else "MONOCHROME2",
            number_of_frames=1,
        )
    )


def _jpeg(frame: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=100, subsampling=0)
    return out.getvalue()


def lossless_jpeg(frame: Pixels, *, bits: int, predictor: int) -> bytes:
    """ITU T.81 process 14, written from its annex H: none of the packages encodes it safely.

    One Huffman table of seventeen codes of 5 bits: simple rather than small.
    """
    values = frame.view(frame.dtype.str.replace("i", "u")).astype(np.int64) & ((1 << bits) - 1)
    left, above, corner = (np.roll(values, shift, (0, 1)) for shift in ((0, 1), (1, 0), (1, 1)))
    guess = {1: left, 4: left + above - corner}[predictor].copy()
    guess[0, 1:], guess[1:, 0], guess[0, 0] = left[0, 1:], above[1:, 0], 1 << (bits - 1)
    differences = (values - guess + 32768) % 65536 - 32768
    out = []
    for difference in differences.reshape(-1).tolist():
        size = 16 if difference == -32768 else abs(difference).bit_length()
        out.append(f"{size:05b}")
        if 0 < size < 16:
            low = difference if difference > 0 else difference + (1 << size) - 1
            out.append(f"{low:0{size}b}")
    text = "".join(out)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    rows, columns = frame.shape
    return (
        b"\xff\xd8"
        + b"\xff\xc3"
        + struct.pack(">HBHHB3B", 11, bits, rows, columns, 1, 1, 0x11, 0)
        + b"\xff\xc4"
        + struct.pack(">HB16B17B", 36, 0, 0, 0, 0, 0, 17, *[0] * 11, *range(17))
        + b"\xff\xda"
        + struct.pack(">HB2B3B", 8, 1, 1, 0, predictor, 0, 0)
        + scan
        + b"\xff\xd9"
    )


def ready_made(name: str) -> bytes:
    """A codestream of `ramp(12)` in a process that none of our packages writes.

    Made once with imagecodecs 2026.3.6: ``htj2k_encode(ramp(12), reversible=True)``,
    ``htj2k_encode(ramp(12), reversible=False, level=5e-5)`` (OpenJPH), ``jpeg_encode(ramp(12),
    level=100, bitspersample=12)`` (libjpeg-turbo).
    """
    return (GOLDEN / f"ramp12_{name}").read_bytes()
