"""AdaptFocus: weakly supervised training on long videos at web scale.

``pipelines`` turns tars of long videos into batches of clips, ``trainers`` trains on them, ``infra`` starts and shows
runs. The three stand at the top of the repository; links here make them parts of one installed name.
"""
