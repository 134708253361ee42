"""What each page says: a result, a comparison, a sweep, the reproduction, from plain documents and what is at hand."""
