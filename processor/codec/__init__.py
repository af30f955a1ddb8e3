"""One finished call as bytes, and back."""
