"""The eCLIP model: two towers, two projections, finding maps; and its weights."""
