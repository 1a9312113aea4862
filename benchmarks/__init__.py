"""What our claims are measured with, on your machine: speed, bytes and memory (on your files too), and the method.

Input: nothing, or videos of yours. Does: `python -m benchmarks.decode`, `python -m benchmarks.fetch`,
`python -m benchmarks.pipeline` and `python -m benchmarks.focus_overhead` run ours and others side by side and
interleaved; `python -m benchmarks.regimes` trains the regimes on the benchmark worlds. Output: figures, as a table or
as one line of JSON each. docs/performance.md and docs/results.md say what each figure is.
"""
