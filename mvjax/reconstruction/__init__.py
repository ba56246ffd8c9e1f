"""Views to a 3D asset: hull, radiance field, mesh, texture, files."""
