"""Search of images by their embeddings: exact, approximate, and on a web page."""
