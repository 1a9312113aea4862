"""Where the work runs: the console command, the demo, local services and reports."""
