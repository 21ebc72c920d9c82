"""Reads DICOM: header, decoding, grey scale."""
