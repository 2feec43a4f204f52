"""A seed study made into the folder that is submitted."""
