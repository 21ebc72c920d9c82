"""Reads the language of radiology reports by rule; words and patterns are in data/.

`labeller` gives the CheXpert-14 labels of a text, `statements` parses a sentence, `sentences`
splits a text. The other modules are the steps between them, from tokens to polarities.
"""
