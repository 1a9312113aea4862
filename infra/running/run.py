"""Train or evaluate a run, in this process or on a cluster, and show progress."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

from adaptfocus.infra.running.ending import Ending, Interrupted, hear_again, hear_signals
from adaptfocus.infra.running.placement import check_this_machine, cpus_of, needed_resources
from adaptfocus.infra.running.progress import console, follow_run, progress_bar
from adaptfocus.infra.running.run_warnings import describe_at_end
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, own_error_in
from adaptfocus.pipelines.index.load import open_index
from adaptfocus.pipelines.store.urls import absolute
from adaptfocus.trainers.backbones.specs import PACKAGED
from adaptfocus.trainers.errors import DrainedError
from adaptfocus.trainers.evaluation.saved import check_views, refuse_other
from adaptfocus.trainers.evaluation.scoring import Scores, check_scorable, commit_of, evaluate, predict_here
from adaptfocus.trainers.inputs.unused_videos import describe_unused
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.holder import check_free, hold_run
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.on_features import test_source
from adaptfocus.trainers.runs.open import classes_of, load_config
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from adaptfocus.trainers.settings.run import TrainConfig

OWN = (None, "local")  # addresses of a cluster that this command starts and that does not grow
POLL_SECONDS = 0.25
WAITING_SECONDS = 20.0  # before the terminal says which workers are awaited


def run_training(config: TrainConfig, address: str | None, take_over: bool = False) -> None:
    """Begin a run, or resume it from its last checkpoint.

    Args:
        take_over: train even if another process trains the run; that process then stops.

    Raises:
        AdaptFocusError: something the user can fix, or the worker group failed too often.
        SystemExit: a person or a machine has stopped it: 130 after Ctrl-C, 143 after SIGTERM.
    """
    with hear_signals() as end:
        try:
            if config.placement.engine_at(address) == "ray":
                check_ray()  # before the run's folder is made
                if address in OWN:
                    check_this_machine(config.placement)
            if not take_over:
                check_free(config.url, say)
            if _begin(config):
                _train(config, address, end)
        except DrainedError as stopped:
            say(str(stopped))
            raise SystemExit(end.exit_code) from stopped
        except Interrupted:
            say(f"stopped before {config.url} trained anything new. Give the same command again to resume")
            raise SystemExit(end.exit_code) from None


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _begin(config: TrainConfig) -> bool:
    """Check a run, and say whether it begins or where it resumes; False if there is nothing left to train."""
    index, left_out, commit, said = prepare(config)
    for line in said:
        say(line)
    if is_finished(config):
        say(f"{config.url} is finished: {config.epochs} epochs are trained. To train its weights further, begin "
            f"another run with start_from={config.url}")  # fmt: skip
        return False
    if commit:
        epoch, cursor = commit.next_position
        at = f"bag {cursor} of {commit.num_bags}" if cursor else "its beginning"
        last = epoch == config.epochs  # everything is trained, and only the merge is missing
        say(f"resuming {config.url} " + ("at its end" if last else f"from epoch {epoch + 1} of {config.epochs}, {at}"))
    if index.unlabelled and config.plan.unlabelled == "negative":
        say(f"{index.unlabelled} of {index.videos} videos have no label: all classes are negatives there")
    if left_out.videos:
        say(describe_unused(left_out, index.videos))
    return True


def _train(config: TrainConfig, address: str | None, end: Ending) -> None:
    began = time.monotonic()
    with hold_run(config.url), follow_run(config.url, config.name) as stage:
        if config.placement.engine_at(address) == "local":
            stage("reading the index")
            engine = LocalEngine(config.plan.bags_per_batch)
            with end.asks(engine.notice.set):
                train(config, engine)
        else:
            _train_on_cluster(config, address, end, stage)
    say(f"trained {config.url} in {time.monotonic() - began:.0f} s")
    for line in describe_at_end(config):
        say(line)


def run_evaluation(
    run_url: str,
    index_url: str,
    views: int,
    name: str,
    engine: str,
    address: str | None,
    epoch: int | None = None,
    crops: int = 1,
    size_pixels: int | None = None,
    overwrite: bool = False,
    features: str | None = None,
) -> Scores:
    """Score a run's newest checkpoint, or the one at the end of an epoch.

    Args:
        features: URL of features of the test index, for a run on features.

    Raises:
        InputError: the name belongs to an evaluation of something else; raised before a cluster is started.
    """
    run_url, index_url = absolute(run_url), absolute(index_url)
    run, config = Run(run_url), load_config(run_url)
    features = features and absolute(features)
    how = (epoch, crops, size_pixels, overwrite, features)
    if line := shown_as(config):
        say(line)
    if engine_of(config, engine, address) == "local":
        with progress_bar("evaluating") as progress:
            return evaluate(run, config, index_url, views, name, predict_here, *how, progress=progress)
    check_ray()
    test = open_index(index_url)
    check_scorable(config, classes_of(config), test, index_url)  # before a cluster is started
    test_source(run, config, features, index_url, test.fingerprint)
    if not overwrite:
        looked = check_views(config, index_url, views, crops, size_pixels)
        refuse_other(run, name, looked.at(commit_of(run, epoch)))
    from adaptfocus.infra.running.cluster import check_seen, connect
    from adaptfocus.trainers.on_ray.over import tasks_where_decoded
    from adaptfocus.trainers.on_ray.predict import predict_on_cluster

    if address in OWN:  # use all of its actors, and no resources of a training worker
        check_this_machine(config.placement.model_copy(update={"worker_resources": {}, "min_workers": None}))
    with connect(address, cpus=cpus_of(config)):
        places = {"the run": store.join(run_url, "config.json"), "the index": store.join(index_url, "snapshots")}
        more = {"the features": store.join(features, "features.json")} if features else {}
        check_seen(places | more)
        with progress_bar("evaluating") as progress:
            over = tasks_where_decoded(config)
            return evaluate(run, config, index_url, views, name, predict_on_cluster, *how, over, progress)


def shown_as(config: TrainConfig) -> str | None:
    """The line that says how a run on several indexes is shown videos after its training; None if it saw all alike."""
    seen = {(config.clip_of(number).fps, crop) for number, crop in enumerate(config.crop_fractions)}
    if len(seen) == 1:
        return None
    rate = "their own frame rate" if config.clip.fps is None else f"{config.clip.fps:g} frames a second"
    return (
        f"All videos are shown as those of {config.index} were in training: at {rate}, with crop_fraction "
        f"{config.decode.crop_fraction:g}. Those of other indexes of `mixture` were shown otherwise"
    )


def engine_of(config: TrainConfig, engine: str, address: str | None) -> str:
    """The engine of `--engine auto`: that of training, or this process if the machine lacks the run's resources."""
    if engine != "auto":
        return engine
    if address in OWN:
        try:
            check_this_machine(config.placement)
        except ConfigError:
            return "local"
    return config.placement.engine_at(address)


def check_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "running on a cluster needs Ray, which is not installed; pip install 'adaptfocus[ray]', or stay on this "
            "machine (train: placement.engine=local; evaluate, extract: --engine local; pack, index: leave out --ray)"
        )


def _train_on_cluster(config: TrainConfig, address: str | None, end: Ending, stage: Callable[[str], None]) -> None:
    place, own = config.placement, address in OWN
    stage("starting Ray" if own else f"connecting to Ray at {address}")
    from ray.train import TrainingFailedError

    from adaptfocus.infra.running import cluster
    from adaptfocus.trainers.on_ray.in_thread import Fit

    with cluster.connect(address, cpus=cpus_of(config)):
        hear_again(end)
        if own:
            cluster.check_offered(place)
        cluster.check_seen(places_of(config))
        stage(f"starting workers: {needed_resources(place)}")
        fit = Fit(config)
        end.clean_up = fit.clean_up
        fit.start()
        with end.asks(fit.ask_to_stop):
            while not fit.join(POLL_SECONDS):
                if fit.waited_seconds > WAITING_SECONDS and not fit.has_begun():
                    stage(f"waiting for workers: {needed_resources(place)}; {cluster.offered_resources()}")
                if end.signal and not fit.has_begun():
                    say(f"stopped before {config.url} trained anything new. Give the same command again to resume")
                    end.end_now(end.exit_code)
        try:
            fit.check()
        except TrainingFailedError as error:
            raise AdaptFocusError(_reason_of_failure(error)) from error


def places_of(config: TrainConfig) -> dict[str, str]:
    """Each place that the workers read or write -> an existing file in it."""
    places = {"runs": store.join(config.url, "config.json")}
    for number, url in enumerate(config.index_urls):
        places["index" if not number else f"mixture.more.{number - 1}.index"] = store.join(url, "snapshots")
    start = config.start_from and store.join(config.start_from, "config.json")
    features = config.features and store.join(config.features, "features.json")
    weights = None if config.weights == PACKAGED else config.weights  # each node has its own package
    more = (("features", features), ("weights", weights), ("start_from", start))
    return places | {k: url for k, url in more if url}


def _reason_of_failure(error: BaseException) -> str:
    """The user's own error inside Ray's, or the last line of the first worker's error."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        if own := own_error_in(failure):
            return str(own)
    text = [line for line in str(next(iter(failures.values()), error)).splitlines() if line.strip()]
    last = text[-1].strip() if text else type(error).__name__
    return f"the workers failed more often than placement.max_restarts allows; the last error: {last}"
