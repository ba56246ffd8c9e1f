"""Views of objects, read alike whoever made them."""
