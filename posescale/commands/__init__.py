"""One module per verb of the command line. Heavy imports belong inside the functions: `--help` must be instant."""
