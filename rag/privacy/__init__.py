"""Who it is stays out of everything that is written.

`reports` finds what names a person in a report, and masks it before a collection is indexed.
`deidentify` writes copies of DICOM files: `header` says what becomes of each element and whether a
name is left, `burned_in` whether there is writing on the image.
"""
