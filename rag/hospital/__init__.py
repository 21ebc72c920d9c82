"""Films from a hospital's network and reports back to it: DICOMweb and C-STORE.

Only carries bytes: films are read by `encoders`, reports are made elsewhere.
"""
