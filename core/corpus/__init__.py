"""Text and tokens: built-in stories, downloads, documents, token files, data sets."""
