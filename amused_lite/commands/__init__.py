"""One module per subcommand: `add_arguments(parser)` and `run(args)`. Heavy imports belong inside `run`."""
