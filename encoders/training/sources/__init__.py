"""Where studies and expert annotation come from: one reader a layout, one type for all."""
