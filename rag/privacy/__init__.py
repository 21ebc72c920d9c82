"""Who it is stays out of everything that is written.

`identifiers` finds what names a person in a text, and `reports` screens a collection with it before
it is indexed. `deidentify` writes copies of DICOM files: `profile` says what becomes of each
element, `pseudonyms` what stands in place of numbers and names, `header_names` whether one is left,
`burned_in` whether there is writing on the image.
"""
