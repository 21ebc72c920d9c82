"""Reads DICOM: header, decoding, grey scale. What cannot be read raises `ImageReadError`."""
