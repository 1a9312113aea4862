"""Ray Jobs, as far as we need them.

Input: the address of a cluster's dashboard. Does: submits, looks for jobs of a run, follows a log through lost
connections. Output: a submission id, log lines on standard output, an exit code.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from adaptfocus.infra.running.progress import console
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError

HOW_TO_REACH = (
    "`ray dashboard ray_cluster.yaml` forwards it from AWS, `kubectl port-forward svc/adaptfocus-head-svc 8265` from "
    "Kubernetes"
)
RECONNECT_SECONDS = 2.0
RECONNECT_ATTEMPTS = 30  # in a row without a new line: the head may be away for a minute


def dashboard_url(address: str) -> str:
    """`HEAD:8265` gets its scheme.

    Raises:
        ConfigError: it is no address of a dashboard.
        StorageError: it contains credentials.
    """
    full = address if "://" in address else f"http://{address}"
    store.check_url(full)
    if urlsplit(full).scheme not in ("http", "https") or not urlsplit(full).hostname:
        raise ConfigError(f"--address {address} is not a dashboard's; jobs go to http://HEAD:8265. {HOW_TO_REACH}")
    return full.rstrip("/")


class JobClient:
    """A cluster that takes jobs.

    Raises:
        ConfigError: the address is none of a dashboard.
        AdaptFocusError: nobody answers there, or it wants a token that this environment does not have.
    """

    def __init__(self, address: str) -> None:
        self.address = dashboard_url(address)
        try:
            from ray.job_submission import JobSubmissionClient

            self._client = JobSubmissionClient(self.address)
        except Exception as error:
            raise _explained(self.address, error) from error

    def refuse_second(self, key: str, run_url: str) -> None:
        """Two jobs on one run would take it from each other.

        Raises:
            ConfigError: a job that has not ended trains the run.
        """
        for job in self._client.list_jobs():
            if (job.metadata or {}).get(key) == run_url and not job.status.is_terminal():
                raise ConfigError(
                    f"job {job.submission_id} trains {run_url} already; follow it with `ray job logs "
                    f"{job.submission_id} --address {self.address} --follow`, or stop it first with `ray job stop "
                    f"{job.submission_id} --address {self.address}`"
                )

    def submit(self, **job: Any) -> str:
        """Upload and submit; the submission id. The driver takes no CPU: the head may offer none."""
        try:
            return self._client.submit_job(entrypoint_num_cpus=0, **job)
        except Exception as error:
            raise _explained(self.address, error) from error

    def follow(self, job: str) -> int:
        """Show the log until the job ends -> its exit code. Ctrl-C detaches, and the job goes on (exit code 130)."""
        try:
            self._show_log(job)
            info = self._ended(job)
        except KeyboardInterrupt:
            say(f"\ndetached; job {job} keeps running. Follow it again: "
                f"ray job logs {job} --address {self.address} --follow")  # fmt: skip
            return 130
        if info.status == "SUCCEEDED":
            say(f"job {job} succeeded")
            return 0
        say(f"job {job} {str(info.status).lower()}: {_first_line(info.message)}")
        return info.driver_exit_code or 1

    def _show_log(self, job: str) -> None:
        log, silent = _Log(), 0
        while silent < RECONNECT_ATTEMPTS:
            before = log.shown
            try:
                asyncio.run(self._tail(job, log))
                return
            except (RuntimeError, OSError) as error:
                broken = error
            if self._is_over(job):
                return
            silent = 0 if log.shown > before else silent + 1
            time.sleep(RECONNECT_SECONDS)
        raise _explained(self.address, broken)

    async def _tail(self, job: str, log: _Log) -> None:
        """Print what has not been shown yet, until the job ends: every connection tells the log from its start."""
        at = 0
        async for text in self._client.tail_job_logs(job):
            sys.stdout.write(text[max(log.shown - at, 0) :])
            sys.stdout.flush()
            at += len(text)
            log.shown = max(log.shown, at)

    def _is_over(self, job: str) -> bool:
        try:
            return self._client.get_job_status(job).is_terminal()
        except Exception:  # not there for the moment
            return False

    def _ended(self, job: str) -> Any:
        """What is known of a job whose log has ended; its state follows some moments later."""
        for _ in range(RECONNECT_ATTEMPTS):
            info = self._client.get_job_info(job)
            if info.status.is_terminal():
                return info
            time.sleep(RECONNECT_SECONDS)
        raise AdaptFocusError(f"the log of job {job} has ended, but it is still {info.status}; `ray job status {job} "
                              f"--address {self.address}` shows it")  # fmt: skip


@dataclass
class _Log:
    shown: int = 0  # characters


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _explained(address: str, error: BaseException) -> AdaptFocusError:
    text = str(error)
    if re.search(r"authori[sz]ation|unauthenticated|\btoken\b|\b40[13]\b", text, re.IGNORECASE):
        return AdaptFocusError(
            f"{address} wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on the "
            "cluster, or RAY_AUTH_MODE=disabled on both sides"
        )
    if "connect" in text.lower():
        return AdaptFocusError(
            f"nobody answers at {address}; --address is that of the dashboard, such as http://HEAD:8265. {HOW_TO_REACH}"
        )
    return AdaptFocusError(f"{address} did not take the job ({type(error).__name__}: {_first_line(text)})")


def _first_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else "no reason given"
