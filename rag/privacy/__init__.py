"""Whose image and whose report it is stays out of everything that is written.

`identifiers` finds what names a person in a text, `reports` screens a collection with it before it
is indexed, `burned_in` looks for writing on an image, `deidentify` writes copies without
identifiers.
"""
