"""The colours of a report's lines."""

# Apart for most kinds of colour vision, and legible on white, on black.
LIGHT = ("#0b62c4", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0f766e", "#52525b")
DARK = ("#6db3ff", "#ff9d5c", "#5fd38a", "#c99bff", "#e5c04b", "#ff8ab8", "#4fd1c5", "#c4c4cc")
