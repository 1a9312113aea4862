"""Between two epochs: the ledger of the last epoch becomes the snapshot and the plan of the next.

Scores are merged into the snapshot. Videos that did not decode are left out, and released ones are taken back
(`epochs.merging`). Then the next plan is drawn (`epochs.planner`) and published; it never changes. Everything here is a
pure function of what has been committed, so doing it twice, or in two processes at once, gives the same bytes.
"""

from __future__ import annotations

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan.published import PlanFacts, publish, read_plan
from adaptfocus.trainers.epochs.merging import merge_epoch
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.runs.growth import Decided, decide, decided
from adaptfocus.trainers.runs.log import RESTORE, Commit, Run
from adaptfocus.trainers.runs.snapshots import Manifest, write_manifest
from adaptfocus.trainers.settings.run import TrainConfig


class Planning:
    """Publishes the plans of a run. Rank 0 does that, and no rank reads rows of the index: tasks do."""

    def __init__(self, run: Run, config: TrainConfig, over: Over) -> None:
        self.run, self.config, self.over = run, config, over
        self._corpora: dict[str | None, Corpus] = {}

    def corpus(self, found: Decided | None) -> Corpus:
        """What the manifests of a snapshot of the index say. They are read once, and only if a plan has to be drawn."""
        fingerprint = found.fingerprint if found else None
        if fingerprint not in self._corpora:
            # Of two epochs at once: one is merged, and the next is planned.
            self._corpora = dict([*self._corpora.items()][-1:])
            self._corpora[fingerprint] = Corpus.of(self.config, fingerprint)
        return self._corpora[fingerprint]

    def publish(self, epoch: int, last: Commit | None) -> PlanFacts | None:
        """Make sure that the plan of `epoch` and the head of the next epoch are on the store; None once all are done.

        Args:
            last: the checkpoint at the end of epoch - 1; its ledger lists what has been trained.

        Raises:
            InputError: more videos failed to decode than `max_bad_share` allows, or a followed index does not contain
                what it had.
            ConfigError: there are too few usable videos for one global batch, or more classes than the run has room
                for.
        """
        if done := read_plan(self.run.epoch_url(epoch, "plan")):
            return done
        manifest, before = self._snapshot(epoch, last)
        if self.config.plan.bags_per_epoch and before and len(before.next) != len(self.config.index_urls):
            url = self.run.epoch_url(epoch - 1, "plan", "plan.json")
            raise InputError(f"{url} is damaged: it does not say where the next epoch begins; {RESTORE}")
        write_manifest(self.run, epoch, manifest)
        if epoch >= self.config.epochs:
            return None
        corpus = self.corpus(decide(self.run, self.config, epoch))
        planner = EpochPlanner(self.config, corpus, manifest, self.over)
        plan = planner.draw(epoch, before.carried if before else (), cursors=before.next if before else ())
        early = planner.basis.head_bags(plan.num_bags)
        if early and epoch + 1 < self.config.epochs:
            # The head goes first: a reader of the plan looks for the next epoch's head only once.
            planner.publish_head(epoch + 1, plan.carried, early, plan.next)
        return publish(plan)

    def _snapshot(self, epoch: int, last: Commit | None) -> tuple[Manifest, PlanFacts | None]:
        """What an epoch is planned from: the snapshot, and the plan of the epoch before."""
        if epoch == 0:
            return {}, None
        corpus = self.corpus(decided(self.run, epoch - 1))
        return merge_epoch(
            self.run, self.config, corpus.partitions, corpus.classes, epoch - 1, last, self.over, corpus.videos_of_label
        )


def publish_plan(
    run: Run, config: TrainConfig, epoch: int, last: Commit | None, over: Over = in_this_process
) -> PlanFacts | None:
    """`Planning.publish` of one epoch."""
    return Planning(run, config, over).publish(epoch, last)
