"""Limits on the load of a store: proportions that hold whatever happens, on a simulated clock."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.store.limits import (
    BURST_TRIES,
    TRIES_PER_SECOND,
    TRIES_PER_SUCCESS,
    TryBudget,
    Window,
    full_jitter,
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@given(st.integers(1, 200), st.floats(0.001, 10), st.floats(0.001, 100), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_below_its_exponential_and_below_the_limit(
    failures: int, first_seconds: float, most_seconds: float, draw: float
) -> None:
    wait = full_jitter(failures, first_seconds, most_seconds, draw)
    assert 0 <= wait <= most_seconds
    assert wait <= first_seconds * 2.0 ** min(failures - 1, 60)


@given(st.lists(st.one_of(st.just("try"), st.just("success"), st.floats(0, 20)), max_size=400))
@settings(deadline=None)
def test_second_tries_stay_in_proportion_to_successes_and_time(events: list) -> None:
    """Whatever the order, there are no more tries than the burst, a share of the successes and a few a second allow."""
    clock = Clock()
    budget, successes, begins = TryBudget(clock), [], []
    for event in events:
        if event == "success":
            budget.succeeded()
            successes.append(clock.seconds)
        elif event == "try":
            begins.append(clock.seconds + budget.take())
        else:
            clock.seconds += event
    for at in {*begins}:
        tries = sum(begin <= at for begin in begins)
        allowed = BURST_TRIES + TRIES_PER_SUCCESS * sum(s <= at for s in successes) + TRIES_PER_SECOND * at
        assert tries <= allowed + 1e-6


def test_a_spent_budget_comes_back() -> None:
    clock = Clock()
    budget = TryBudget(clock)
    assert [budget.take() for _ in range(int(BURST_TRIES))] == [0.0] * int(BURST_TRIES)
    assert budget.take() == 1 / TRIES_PER_SECOND
    assert not budget.has_spare()
    for _ in range(int(2 * BURST_TRIES / TRIES_PER_SUCCESS)):
        budget.succeeded()
    assert budget.take() == 0
    assert budget.has_spare()


@given(st.lists(st.sampled_from(["begin", "refused", "success", "broken"]), max_size=500), st.integers(1, 64))
@settings(deadline=None)
def test_a_window_keeps_its_bounds_whatever_happens(events: list[str], most: int) -> None:
    window, under_way = Window(most), []
    for event in events:
        if event == "begin":
            began = window.begin()
            assert (began is None) == (len(under_way) >= int(window.limit))
            under_way += [] if began is None else [began]
        elif under_way:
            window.end(under_way.pop(0), event == "refused", event == "success")
        assert 1 <= window.limit <= most
        assert window.under_way == len(under_way)


def test_all_that_was_under_way_at_a_refusal_is_one_refusal() -> None:
    """16 requests that are refused together are one sign of overload, not sixteen."""
    window = Window(16)
    began = [window.begin() for _ in range(16)]
    for each in began:
        assert each is not None
        window.end(each, is_refused=True, is_success=False)
    assert window.limit == 16 * 0.7


def test_a_window_closes_while_a_store_refuses_and_opens_again_afterwards() -> None:
    window = Window(64)

    def request(is_refused: bool) -> None:
        began = window.begin()
        assert began is not None
        window.end(began, is_refused, not is_refused)

    for _ in range(40):
        request(is_refused=True)
    assert window.limit == 1
    for _ in range(3000):
        request(is_refused=False)
    assert window.limit == 64, "64 + 63 + ... successes are enough"
