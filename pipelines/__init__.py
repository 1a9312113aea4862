"""What happens to the data, from annotated videos to batches of clips.

Input: videos and their labels, WebDataset tars in object storage, last epoch's saliency.
Does: packs, indexes, plans, reads ranges, decodes.
Output: an index, immutable epoch plans, batches of uint8 clips, saliency snapshots (Parquet, Arrow, numpy).
"""
