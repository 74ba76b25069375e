"""What lies in corpora, what is wrong with it, and what leaks from test to training."""
