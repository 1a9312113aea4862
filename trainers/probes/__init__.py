"""Small heads on features: what a backbone's features are worth for the tasks that others build on them.

Input: features of whole videos, in order of time; annotations of one task.
Does: trains a small head on the training videos, the same one under the same schedule whatever
the features, on a CPU in well under a minute.
Output: predictions on the test videos, and their scores.

A head that is better for its task is somebody else's repository: `adaptfocus export` writes their layouts.
"""
