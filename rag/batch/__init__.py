"""Many studies -> predictions.jsonl, unattended and resumable.

`inputs` and `manifests` list the images, `grouping` makes studies of them, `workers` (or `ray`)
draft, `output` owns the folder that is written, `runner` puts them together.
"""
