"""Integer grids, codecs, the container, and the one-file bundle of the counted code."""
