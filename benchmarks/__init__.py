"""What our claims about speed, bytes and memory are measured with, on your machine and your files.

Input: nothing, or videos of yours. Does: `python -m benchmarks.decode`, `python -m benchmarks.fetch`,
`python -m benchmarks.pipeline` and `python -m benchmarks.focus_overhead` run ours and others side by side and
interleaved. Output: figures, as a table or as one line of JSON each. docs/performance.md defines every figure.
"""
