"""Integer grids, GPTQ, entropy model, codecs, the container, byte breakdown, and files of published models."""
