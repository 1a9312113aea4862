"""The demo: a corpus, a training run, a kill, a resume, a report."""
