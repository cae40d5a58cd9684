"""A page in the browser: see faces, hide them, watch the attack, and see who reads the result."""
