"""The statistics of the benchmarks: a ratio that is wrong is worse than none."""

import gc
import threading

import pytest

from benchmarks.rounds import COMPUTING, Refused, Sample, Shared, compared, interleaved, undisturbed, walk


def allows(subjects):
    for _ in subjects:
        pass


def refuses_three(subjects):
    return next((subject for subject in subjects if subject == 3), None)


def test_a_ratio_is_the_median_of_the_ratios_within_rounds():
    # The third round was slow for both: the medians of the times alone would say 2.5.
    seconds = {"reference": [1.0, 2.0, 10.0], "other": [3.0, 5.0, 20.0]}

    assert compared(seconds, "reference")["other"] == Sample(seconds=5.0, ratio=2.5, low=2.25, high=2.75)


def test_noise_that_hits_a_whole_round_leaves_the_ratio_alone():
    seconds = {"reference": [1.0, 7.0, 1.0, 90.0], "other": [2.0, 14.0, 2.0, 180.0]}

    sample = compared(seconds, "reference")["other"]

    assert (sample.ratio, sample.low, sample.high) == (2.0, 2.0, 2.0)


def test_the_reference_is_one_times_itself():
    assert compared({"reference": [0.3, 0.1]}, "reference")["reference"].ratio == 1


def test_one_round_is_enough_for_a_figure():
    assert compared({"a": [2.0], "b": [3.0]}, "a")["b"] == Sample(seconds=3.0, ratio=1.5, low=1.5, high=1.5)


def test_every_contestant_runs_once_a_round_in_changing_order():
    ran = []
    timers = {name: lambda name=name: ran.append(name) or 1.0 for name in "abc"}

    seconds = interleaved(timers, 12)

    rounds = ["".join(ran[start : start + 3]) for start in range(0, 36, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) > 3
    assert seconds == {name: [1.0] * 12 for name in "abc"}


def test_the_collector_rests_while_the_clock_runs_and_works_afterwards():
    with undisturbed():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_walk_goes_on_where_it_stopped_and_starts_again_at_the_end():
    asked = []

    def batch(subjects):
        asked.append(list(subjects))
        threading.Event().wait(0.002)

    timed = walk(batch, list(range(5)), seconds=0.002)
    asked.clear()
    timed()
    timed()

    # Each turn is so slow that it settles at the fewest calls, eight.
    assert asked == [[0, 1, 2, 3, 4, 0, 1, 2], [3, 4, 0, 1, 2, 3, 4, 0]]


def test_the_time_is_that_of_one_call():
    assert 0 < walk(allows, ["one"], seconds=0.001, clock=COMPUTING)() < 0.001


def test_a_batch_that_takes_no_time_is_not_tried_with_ever_more_calls():
    lengths = []

    walk(lambda subjects: lengths.append(len(subjects)), ["one"], seconds=1)

    assert max(lengths) < 1 << 23


@pytest.mark.parametrize("threads", [1, 8])
def test_a_refused_subject_ends_the_measurement(threads):
    with pytest.raises(Refused, match="3"):
        walk(refuses_three, range(5), seconds=0.0001, threads=threads)()


def test_threads_share_the_calls_so_that_each_is_asked_once():
    asked = []

    def batch(subjects):
        asked.extend(subjects)

    assert Shared(batch, range(100), 8).timed() > 0
    assert sorted(asked) == list(range(100))
