"""Where totals are kept, together with the offsets that they include."""
