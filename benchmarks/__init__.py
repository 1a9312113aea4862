"""The programs that measure our claims on your machine: speed, bytes and memory (on your files too), and the method.

`python -m benchmarks.decode`, `benchmarks.fetch`, `benchmarks.pipeline` and `benchmarks.focus_overhead` run our code
and that of others in turns. `python -m benchmarks.regimes` trains the regimes on the benchmark worlds. Each prints its
figures as a table, or as one line of JSON each. docs/performance.md and docs/results.md say what each figure is.
"""
