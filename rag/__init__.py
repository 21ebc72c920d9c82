"""The product: retrieve evidence, ask the language model, check the draft, record what was done."""
