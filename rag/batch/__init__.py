"""Many studies -> predictions.jsonl, unattended: nothing is lost, nothing is guessed.

`inputs` and `manifests` say which images there are, `grouping` makes studies of them, `output` owns
the folder that is written, `workers` (or `ray`) do the work, `runner` puts them together.
"""
