"""What happens to the model.

Input: batches of clips with their bags' labels and saliency.
Does: AdaptFocus training (saliency estimation, action focusing, clip focusing), checkpoints, evaluation.
Output: weights, ledgers of scores, metrics.
"""
