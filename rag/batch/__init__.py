"""Many studies -> predictions.jsonl, unattended: nothing is lost, nothing is guessed.

`sources` says which images there are, `grouping` makes studies of them, `output` owns the folder
that is written, `stages` does the work, `runner` puts them together.
"""
