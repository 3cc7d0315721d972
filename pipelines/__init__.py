"""The three programs and their parts: configuration, construction, command line."""
