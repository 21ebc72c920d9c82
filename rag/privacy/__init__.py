"""Keeps identifiers of persons out of what is written.

`reports` finds identifiers in a report and masks them before indexing. `deidentify` copies DICOM
files: `header` decides about each element, `burned_in` looks for text on the image.
"""
