"""Reports: training runs and probes as pages for a browser."""
