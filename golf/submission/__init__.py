"""The folder that is submitted."""
