"""The frozen nouns of the product and its errors."""
