"""What is searched, which trial comes next, and who goes on."""
