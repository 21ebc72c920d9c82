"""Steps from the nearest reports to the evidence of one film; each can be switched and measured.

`rag.retriever` puts them in order. A step is a function from hits to hits: it knows neither the
store nor the language model.
"""
