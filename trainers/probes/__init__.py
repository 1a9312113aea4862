"""Small heads on features: how good a backbone's features are for the tasks that other projects build on them.

For one task, the same head is trained under the same schedule whatever the features, on a CPU in well under a minute.
It takes features of whole videos in order of time, and gives predictions on the test videos and their scores.

Better heads for each task are in the repositories of other projects; `adaptfocus export` writes features in their
layouts.
"""
