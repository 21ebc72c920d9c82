"""Reads the language of radiology reports by rule; words and patterns are in data/.

`labeller` gives CheXpert-14 labels of a text, `statements` what a sentence states, `sentences`
where sentences begin and end. The rest are their parts, from words up to assertions.
"""
