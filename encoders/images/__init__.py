"""Reads images of any format: DICOM, PNG, JPEG."""
