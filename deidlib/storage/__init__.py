"""Files by URL: where they lie, what is there, and how they come and go whole."""
