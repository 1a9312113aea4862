"""What happens to the data, from annotated videos to batches of clips.

Videos and their labels are packed into WebDataset tars in object storage and indexed. Each epoch is planned from the
index and the last epoch's saliency (what the model believes of each action over time); plans are immutable. Byte ranges
are then read and decoded into batches of uint8 clips.
"""
