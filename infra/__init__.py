"""Where it runs.

Input: a command line and a machine or a cluster.
Does: the console command, the demo, local services, reports.
Output: runs, and pages that a person can read.
"""
