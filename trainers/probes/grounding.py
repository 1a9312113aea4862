"""Temporal sentence grounding: a map of proposals, scored for a sentence (after 2D-TAN, Zhang et al., AAAI 2020).

A video is cut into 32 clips. Each clip is combined with the sentence, and then a recurrent layer looks at the clips in
both directions of time. Every stretch from clip i to clip j gets a score from its ends and its mean. The scores learn
the overlap with the true stretch, as in 2D-TAN, and word vectors are learned on the task. The result for a sentence is
a list of stretches, best first, none of which overlaps a better one by more than half.

Where a sentence has a word of order ("after", "for the second time"), a single clip is not enough to answer it. The
recurrent layer is there for such sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.metrics.grounding import moment_iou, non_maximum_suppression
from adaptfocus.trainers.probes.training import Progress, Schedule, fit, fresh, pad_sequences, resample_features

SCHEDULE = Schedule(epochs=16, batch_items=32, learning_rate=4e-3)
CLIPS = 32
CHANNELS = 32
WORD_FEATURES = 32
OVERLAP_OF_NONE, OVERLAP_OF_ALL = 0.3, 0.9  # the target rises from 0 to 1 between these overlaps
KEPT = 5
LARGEST_OVERLAP = 0.5  # of two stretches that are both kept


@dataclass(frozen=True)
class Query:
    """A sentence and the moment that it means."""

    video: int  # place of its video's features
    sentence: str
    start_share: float  # of the video's duration
    end_share: float


def words_of(sentence: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", sentence.lower())


class Vocabulary:
    """Words of the training sentences, numbered from 2; 0 is padding, and 1 is any other word."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self.numbers = {word: n for n, word in enumerate(sorted({w for s in sentences for w in words_of(s)}), start=2)}

    def __len__(self) -> int:
        return len(self.numbers) + 2

    def encoded(self, sentence: str) -> torch.Tensor:
        """int64 [words], at least one."""
        return torch.tensor([self.numbers.get(word, 1) for word in words_of(sentence)] or [1])


class ProposalMap(nn.Module):
    """float [B, CLIPS, D], words int64 [B, W] and which are real -> logits [B, CLIPS, CLIPS] of (first, last) clip."""

    def __init__(self, num_features: int, num_words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, WORD_FEATURES, padding_idx=0)
        self.sentence = nn.GRU(WORD_FEATURES, CHANNELS, batch_first=True, bidirectional=True)
        self.gate = nn.Linear(2 * CHANNELS, 2 * CHANNELS)
        self.clips = nn.Sequential(nn.Linear(num_features, 2 * CHANNELS), nn.ReLU(), nn.Dropout(0.1))
        self.context = nn.GRU(2 * CHANNELS, CHANNELS, batch_first=True, bidirectional=True)
        self.parts = nn.ModuleDict({part: nn.Linear(4 * CHANNELS, CHANNELS) for part in ("first", "last", "mean")})
        self.near = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.score = nn.Linear(CHANNELS, 1)

    def forward(self, clips_BND: torch.Tensor, words_BW: torch.Tensor, is_word: torch.Tensor) -> torch.Tensor:
        said, _ = self.sentence(self.words(words_BW))
        said = (said * is_word[..., None]).sum(dim=1) / is_word.sum(dim=1, keepdim=True)
        met = self.clips(clips_BND) * self.gate(said)[:, None]
        x = torch.cat([met, self.context(met)[0]], dim=2)
        first, last, mean = (self.parts[part](x) for part in ("first", "last", "mean"))
        grid = first[:, :, None] + last[:, None] + _means(mean)
        grid = torch.relu(grid).permute(0, 3, 1, 2)
        grid = torch.relu(self.near(grid) + grid).permute(0, 2, 3, 1)
        return self.score(grid).squeeze(-1)


def _means(x: torch.Tensor) -> torch.Tensor:
    """[B, N, C] -> [B, N, N, C]: the mean from place i to place j, both included; meaningless where j < i."""
    sums = functional.pad(x.cumsum(dim=1), (0, 0, 1, 0))
    places = torch.arange(x.shape[1])
    lengths = (places[None] - places[:, None] + 1).clamp(min=1)
    return (sums[:, None, 1:] - sums[:, :-1, None]) / lengths[None, :, :, None]


def overlaps(start: float, end: float) -> np.ndarray:
    """Intersection over union of a stretch (in shares of the video) with every proposal: float64 [CLIPS, CLIPS]."""
    edges = np.arange(CLIPS + 1) / CLIPS
    first, last = np.broadcast_arrays(edges[:-1, None], edges[None, 1:])
    return np.where(last > first, moment_iou(np.stack([first, last], axis=-1), np.array([start, end])), 0.0)


def train_grounding(
    features: Sequence[torch.Tensor],
    queries: Sequence[Query],
    vocabulary: Vocabulary,
    seed: int,
    schedule: Schedule = SCHEDULE,
    progress: Progress | None = None,
) -> tuple[ProposalMap, list[float]]:
    """Train on videos of features float [T, D] and sentences about them -> the head, and the loss of each epoch."""
    head = fresh(lambda: ProposalMap(features[0].shape[1], len(vocabulary)), seed)
    clips = torch.stack([resample_features(each, CLIPS) for each in features])
    words = [vocabulary.encoded(query.sentence) for query in queries]
    rise = OVERLAP_OF_ALL - OVERLAP_OF_NONE
    targets = torch.stack(
        [
            torch.from_numpy(np.clip((overlaps(q.start_share, q.end_share) - OVERLAP_OF_NONE) / rise, 0, 1)).float()
            for q in queries
        ]
    )
    possible = torch.ones(CLIPS, CLIPS).triu().bool()

    def loss_of(items: Sequence[int]) -> torch.Tensor:
        scores = head(clips[[queries[i].video for i in items]], *pad_sequences([words[i] for i in items]))
        wanted = targets[list(items)][:, possible]
        return functional.binary_cross_entropy_with_logits(scores[:, possible], wanted) * CLIPS

    losses = fit(head, loss_of, len(queries), schedule, seed, progress)
    return head, losses  # type: ignore[return-value]


@torch.inference_mode()
def ground(head: nn.Module, features: torch.Tensor, sentence: str, vocabulary: Vocabulary) -> np.ndarray:
    """The KEPT best stretches for a sentence, best first, as (start, end) shares of the video: float64 [<= KEPT, 2]."""
    scores = head(resample_features(features, CLIPS)[None], *pad_sequences([vocabulary.encoded(sentence)]))[0].numpy()
    first, last = np.triu_indices(CLIPS)
    stretches = np.stack([first, last + 1], axis=1) / CLIPS
    return non_maximum_suppression(stretches, scores[first, last], LARGEST_OVERLAP, KEPT)
