"""Record folders that somebody else made, read and compared without running their code."""
