"""The eCLIP model: two towers, two projections, and the expert parts around them."""
