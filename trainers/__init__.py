"""What happens to the model: AdaptFocus training (saliency estimation, action focusing, clip focusing) and evaluation.

Batches of clips come in, with the labels and the saliency of their bags; a bag is the clips of one video in a batch.
Checkpoints, ledgers of scores and metrics come out.
"""
